#include <simdjson.h>

#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "base/text.h"
#include "gateway/half.h"
#include "gateway/infer.h"

namespace loam::gateway {
namespace {

using channel::DType;
using channel::Signature;
using channel::TensorSpec;
using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

tl::unexpected<Error> bad(std::string text) { return fail(ErrorCode::invalid, std::move(text)); }

std::string in_quotes(std::string_view name) { return "'" + printable(name.substr(0, 200)) + "'"; }

std::string describe(const TensorSpec& spec) {
  return in_quotes(spec.name) + " (" + std::string(dtype_name(spec.dtype)) + " " +
         spec.shape_text() + ")";
}

std::string describe(const std::vector<TensorSpec>& specs) {
  std::vector<std::string> parts;
  for (const TensorSpec& spec : specs) parts.push_back(describe(spec));
  return join(parts, ", ");
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::vector<std::string> parts;
  for (const std::int64_t size : shape) parts.push_back(std::to_string(size));
  return "[" + join(parts, ", ") + "]";
}

bool bool_or(simdjson::simdjson_result<element> value, bool fallback) {
  bool flag = false;
  return value.get_bool().get(flag) == simdjson::SUCCESS ? flag : fallback;
}

template <class T>
void put(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

// One JSON number to its place. False: not a value of the datatype.
using PutNumber = bool (*)(element value, std::byte* to);

template <class T>
bool put_integer(element value, std::byte* to) {
  std::int64_t number = 0;
  if (value.get_int64().get(number) != simdjson::SUCCESS || !std::in_range<T>(number)) return false;
  put(to, static_cast<T>(number));
  return true;
}

bool put_uint64(element value, std::byte* to) {
  std::uint64_t number = 0;
  if (value.get_uint64().get(number) != simdjson::SUCCESS) return false;
  put(to, number);
  return true;
}

bool put_bool(element value, std::byte* to) {
  bool flag = false;
  std::int64_t number = 0;
  if (value.get_bool().get(flag) != simdjson::SUCCESS) {
    if (value.get_int64().get(number) != simdjson::SUCCESS || (number != 0 && number != 1))
      return false;
    flag = number == 1;
  }
  put(to, static_cast<std::uint8_t>(flag));
  return true;
}

bool put_fp64(element value, std::byte* to) {
  double number = 0;
  if (value.get_double().get(number) != simdjson::SUCCESS) return false;
  put(to, number);
  return true;
}

bool put_fp32(element value, std::byte* to) {
  double number = 0;
  if (value.get_double().get(number) != simdjson::SUCCESS) return false;
  const float narrow = static_cast<float>(number);
  put(to, narrow);
  return std::isfinite(narrow);
}

bool put_fp16(element value, std::byte* to) {
  double number = 0;
  if (value.get_double().get(number) != simdjson::SUCCESS) return false;
  const std::uint16_t half = half_of_float(static_cast<float>(number));
  put(to, half);
  return std::isfinite(float_of_half(half));
}

PutNumber put_number_for(DType dtype) {
  switch (dtype) {
    case DType::boolean:
      return put_bool;
    case DType::uint8:
      return put_integer<std::uint8_t>;
    case DType::uint16:
      return put_integer<std::uint16_t>;
    case DType::uint32:
      return put_integer<std::uint32_t>;
    case DType::uint64:
      return put_uint64;
    case DType::int8:
      return put_integer<std::int8_t>;
    case DType::int16:
      return put_integer<std::int16_t>;
    case DType::int32:
      return put_integer<std::int32_t>;
    case DType::int64:
      return put_integer<std::int64_t>;
    case DType::fp16:
      return put_fp16;
    case DType::fp32:
      return put_fp32;
    case DType::fp64:
      return put_fp64;
  }
  return nullptr;
}

// Writes `data` of one input, flat or nested as its shape, in row-major order.
class DataReader {
 public:
  DataReader(const TensorSpec& spec, const std::vector<std::int64_t>& shape,
             std::vector<std::byte>& out)
      : spec_(spec), shape_(shape), out_(out), put_(put_number_for(spec.dtype)) {}

  Result<void> read(array values) {
    LOAM_CHECK(read_level(values, 0));
    if (written_bytes_ == out_.size()) return {};
    return bad("input " + in_quotes(spec_.name) + ": data has " + count_text() + " values, shape " +
               shape_text(shape_) + " expects " + std::to_string(out_.size() / size()));
  }

 private:
  std::size_t size() const { return dtype_size_bytes(spec_.dtype); }
  std::string count_text() const { return std::to_string(written_bytes_ / size()); }

  Result<void> read_level(array values, std::size_t level) {
    const std::size_t before = written_bytes_;
    std::int64_t lists = 0;
    for (const element value : values) {
      array inner;
      if (value.get_array().get(inner) == simdjson::SUCCESS) {
        if (level + 1 >= shape_.size() || written_bytes_ != before + expected_bytes(level, lists))
          return wrong_nesting();
        ++lists;
        LOAM_CHECK(read_level(inner, level + 1));
        continue;
      }
      if (lists != 0) return wrong_nesting();
      if (written_bytes_ == out_.size())
        return bad("input " + in_quotes(spec_.name) + ": data has more values than shape " +
                   shape_text(shape_) + " expects (" + std::to_string(out_.size() / size()) + ")");
      if (!put_(value, out_.data() + written_bytes_))
        return bad("input " + in_quotes(spec_.name) + ": value " + count_text() +
                   " of data is no " + std::string(dtype_name(spec_.dtype)));
      written_bytes_ += size();
    }
    if (level > 0 && written_bytes_ - before != expected_bytes(level - 1, 1))
      return wrong_nesting();
    return {};
  }

  // Bytes of `lists` lists one level below `level`.
  std::size_t expected_bytes(std::size_t level, std::int64_t lists) const {
    std::size_t bytes = size() * static_cast<std::size_t>(lists);
    for (std::size_t i = level + 1; i < shape_.size(); ++i)
      bytes *= static_cast<std::size_t>(shape_[i]);
    return bytes;
  }

  tl::unexpected<Error> wrong_nesting() const {
    return bad("input " + in_quotes(spec_.name) + ": data is not nested as shape " +
               shape_text(shape_));
  }

  const TensorSpec& spec_;
  const std::vector<std::int64_t>& shape_;
  std::vector<std::byte>& out_;
  PutNumber put_;
  std::size_t written_bytes_ = 0;
};

class Decoder {
 public:
  Decoder(const HttpRequest& request, const Signature& signature, std::uint32_t rows_max)
      : request_(request), signature_(signature), rows_max_(rows_max) {}

  Result<InferRequest> decode() {
    LOAM_CHECK(split_body());
    // Kept: its buffers are as large as the largest request so far.
    static thread_local simdjson::dom::parser parser;
    element root;
    if (const auto error = parser.parse(json_.data(), json_.size()).get(root))
      return bad(std::string("request is not JSON: ") + simdjson::error_message(error));
    object document;
    if (root.get_object().get(document)) return bad("request is not a JSON object");
    LOAM_CHECK(read_id(document));
    LOAM_CHECK(read_inputs(document));
    LOAM_CHECK(read_outputs(document));
    return std::move(result_);
  }

 private:
  Result<void> split_body() {
    const std::string_view body = request_.body;
    json_ = body;
    if (!request_.inference_header) return {};
    std::size_t size = 0;
    const std::string& text = *request_.inference_header;
    const auto end = std::from_chars(text.data(), text.data() + text.size(), size);
    if (end.ec != std::errc() || end.ptr != text.data() + text.size() || size > body.size())
      return bad("Inference-Header-Content-Length " + in_quotes(text) +
                 ": expected a number of at most " + std::to_string(body.size()) +
                 ", the size of the body");
    json_ = body.substr(0, size);
    binary_ = body.substr(size);
    return {};
  }

  Result<void> read_id(object document) {
    const auto member = document["id"];
    if (member.error()) return {};
    std::string_view id;
    if (member.get_string().get(id)) return bad("id: expected a string");
    if (id.size() > kRequestIdBytesMax) return bad("id: over 256 bytes");
    result_.id = id;
    return {};
  }

  Result<void> read_inputs(object document) {
    array inputs;
    if (document["inputs"].get_array().get(inputs))
      return bad("inputs: expected a list of tensors");
    const std::size_t count = signature_.inputs.size();
    result_.inputs.resize(count);
    result_.decoded.resize(count);
    seen_.assign(count, false);
    std::size_t tensors = 0;
    for (const element input : inputs) {
      if (++tensors > kRequestTensorsMax) return bad("inputs: over 32 tensors");
      LOAM_CHECK(read_input(input));
    }
    for (std::size_t i = 0; i < count; ++i)
      if (!seen_[i]) return bad("input " + describe(signature_.inputs[i]) + " is missing");
    if (!binary_.empty())
      return bad("the body has " + std::to_string(binary_.size()) +
                 " bytes after the JSON that no input's binary_data_size accounts for");
    return {};
  }

  Result<void> read_input(element input) {
    std::string_view name;
    std::string_view datatype;
    if (input["name"].get_string().get(name)) return bad("inputs: a tensor has no name");
    const std::size_t index = find(signature_.inputs, name);
    if (index == signature_.inputs.size())
      return bad("input " + in_quotes(name) + ": no such input; expected " +
                 describe(signature_.inputs));
    const TensorSpec& spec = signature_.inputs[index];
    if (seen_[index]) return bad("input " + in_quotes(name) + " is there twice");
    seen_[index] = true;
    if (input["datatype"].get_string().get(datatype))
      return bad("input " + in_quotes(name) + ": datatype is missing, " +
                 std::string(dtype_name(spec.dtype)) + " is expected");
    if (datatype != dtype_name(spec.dtype))
      return bad("input " + in_quotes(name) + ": datatype " + printable(datatype.substr(0, 32)) +
                 " came, " + std::string(dtype_name(spec.dtype)) + " is expected");
    const auto shape = LOAM_TRY(read_shape(input, spec));
    return read_content(input, spec, shape, index);
  }

  Result<std::vector<std::int64_t>> read_shape(element input, const TensorSpec& spec) {
    array dims;
    if (input["shape"].get_array().get(dims))
      return bad("input " + in_quotes(spec.name) + ": shape is missing, " + spec.shape_text() +
                 " is expected");
    std::vector<std::int64_t> shape;
    bool numbers = true;
    for (const element dim : dims) {
      std::int64_t size = -1;
      numbers = numbers && !dim.get_int64().get(size) && size >= 0;
      shape.push_back(size);
      if (shape.size() > kShapeDimsMax) break;
    }
    const bool fits = numbers && shape.size() == spec.row_shape.size() + 1 &&
                      std::equal(spec.row_shape.begin(), spec.row_shape.end(), shape.begin() + 1);
    if (!fits)
      return bad("input " + in_quotes(spec.name) + ": shape " + shape_text(shape) + " came, " +
                 spec.shape_text() + " is expected");
    if (shape[0] < 1)
      return bad("input " + in_quotes(spec.name) + ": shape " + shape_text(shape) + " has no rows");
    if (shape[0] > rows_max_)
      return bad("input " + in_quotes(spec.name) + ": " + std::to_string(shape[0]) +
                 " rows came, at most " + std::to_string(rows_max_) + " are expected (batch max)");
    if (result_.rows != 0 && shape[0] != result_.rows)
      return bad("input " + in_quotes(spec.name) + ": " + std::to_string(shape[0]) +
                 " rows came, " + std::to_string(result_.rows) +
                 " are expected, as of the inputs before it");
    result_.rows = static_cast<std::uint32_t>(shape[0]);
    return shape;
  }

  Result<void> read_content(element input, const TensorSpec& spec,
                            const std::vector<std::int64_t>& shape, std::size_t index) {
    const std::size_t size_bytes = spec.row_bytes() * result_.rows;
    array data;
    const bool has_data = !input["data"].get_array().get(data);
    const auto binary_size = input["parameters"]["binary_data_size"];
    if (!binary_size.error()) {
      if (has_data)
        return bad("input " + in_quotes(spec.name) + ": both data and binary_data_size");
      std::uint64_t size = 0;
      if (binary_size.get_uint64().get(size) || size != size_bytes)
        return bad("input " + in_quotes(spec.name) + ": binary_data_size " +
                   simdjson::minify(binary_size) + " came, shape " + shape_text(shape) +
                   " expects " + std::to_string(size_bytes));
      if (size > binary_.size())
        return bad("input " + in_quotes(spec.name) + ": " + std::to_string(binary_.size()) +
                   " bytes are left in the body, binary_data_size is " + std::to_string(size));
      result_.inputs[index] = std::as_bytes(std::span(binary_.substr(0, size)));
      binary_.remove_prefix(size);
      return {};
    }
    if (!has_data)
      return bad("input " + in_quotes(spec.name) + ": no data and no binary_data_size");
    result_.decoded[index].resize(size_bytes);
    LOAM_CHECK(DataReader(spec, shape, result_.decoded[index]).read(data));
    result_.inputs[index] = result_.decoded[index];
    return {};
  }

  Result<void> read_outputs(object document) {
    const bool all_binary = bool_or(document["parameters"]["binary_data_output"], false);
    array outputs;
    if (document["outputs"].get_array().get(outputs)) {
      if (!document["outputs"].error()) return bad("outputs: expected a list");
      for (std::size_t i = 0; i < signature_.outputs.size(); ++i)
        result_.outputs.push_back({i, all_binary});
      return {};
    }
    for (const element output : outputs) {
      std::string_view name;
      if (output["name"].get_string().get(name)) return bad("outputs: one has no name");
      const std::size_t index = find(signature_.outputs, name);
      if (index == signature_.outputs.size())
        return bad("output " + in_quotes(name) + ": no such output; expected " +
                   describe(signature_.outputs));
      for (const OutputChoice& other : result_.outputs)
        if (other.tensor == index) return bad("output " + in_quotes(name) + " is there twice");
      if (!output["parameters"]["classification"].error())
        return bad("output " + in_quotes(name) + ": the classification extension is not offered");
      const bool binary = bool_or(output["parameters"]["binary_data"], all_binary);
      result_.outputs.push_back({index, binary});
    }
    return {};
  }

  static std::size_t find(const std::vector<TensorSpec>& specs, std::string_view name) {
    std::size_t index = 0;
    while (index < specs.size() && specs[index].name != name) ++index;
    return index;
  }

  static constexpr std::size_t kShapeDimsMax = 16;

  const HttpRequest& request_;
  const Signature& signature_;
  const std::uint32_t rows_max_;
  std::string_view json_;
  std::string_view binary_;  // not yet used
  std::vector<bool> seen_;
  InferRequest result_;
};

}  // namespace

Result<InferRequest> decode_infer(const HttpRequest& request, const Signature& signature,
                                  std::uint32_t rows_max) {
  if (!request.content_encoding.empty() && request.content_encoding != "identity")
    return bad("Content-Encoding " + printable(request.content_encoding) +
               " is not offered; send plain bytes");
  return Decoder(request, signature, rows_max).decode();
}

}  // namespace loam::gateway
