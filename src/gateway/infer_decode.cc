#include <simdjson.h>

#include <charconv>
#include <span>

#include "base/text.h"
#include "gateway/infer.h"
#include "gateway/infer_data.h"

namespace loam::gateway {
namespace {

using channel::DType;
using channel::Signature;
using channel::TensorSpec;
using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

std::string describe(const TensorSpec& spec) {
  return in_quotes(spec.name) + " (" + std::string(dtype_name(spec.dtype)) + " " +
         spec.shape_text() + ")";
}

std::string describe(const std::vector<TensorSpec>& specs) {
  std::vector<std::string> parts;
  for (const TensorSpec& spec : specs) parts.push_back(describe(spec));
  return join(parts, ", ");
}

// What a request has there.
std::string came(simdjson::simdjson_result<element> member) {
  element value;
  if (member.get(value) != simdjson::SUCCESS) return "is missing";
  return json_text(value) + " came";
}

bool bool_or(simdjson::simdjson_result<element> value, bool fallback) {
  bool flag = false;
  return value.get_bool().get(flag) == simdjson::SUCCESS ? flag : fallback;
}

class Decoder {
 public:
  Decoder(const HttpRequest& request, const Signature& signature, std::uint32_t rows_max)
      : request_(request), signature_(signature), rows_max_(rows_max) {}

  Result<InferRequest> decode() {
    LOAM_CHECK(split_body());
    // Kept for the next request. Its buffers grow to several times the text, so a large one has a
    // parser of its own, whose memory goes with it.
    static thread_local simdjson::dom::parser kept;
    simdjson::dom::parser own;
    simdjson::dom::parser& parser = json_.size() > kKeptBytesMax ? own : kept;
    element root;
    if (const auto error = parser.parse(json_.data(), json_.size()).get(root))
      return bad(std::string("request is not JSON: ") + simdjson::error_message(error));
    object document;
    if (root.get_object().get(document))
      return bad("request: " + json_text(root) + " came, an object with \"inputs\" is expected");
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
    if (member.get_string().get(id))
      return bad("id: " + json_text(member.value_unsafe()) + " came, a string is expected");
    if (id.size() > kRequestIdBytesMax) return bad("id: over 256 bytes");
    result_.id = std::string(id);
    return {};
  }

  Result<void> read_inputs(object document) {
    array inputs;
    if (document["inputs"].get_array().get(inputs))
      return bad("inputs " + came(document["inputs"]) + ", a list of tensors is expected: " +
                 describe(signature_.inputs));
    const std::size_t count = signature_.inputs.size();
    result_.inputs.resize(count);
    result_.decoded.resize(count);
    seen_.assign(count, false);
    std::size_t tensors = 0;
    for (const element input : inputs) {
      if (tensors == kRequestTensorsMax) return bad("inputs: over 32 tensors");
      LOAM_CHECK(read_input(input, tensors++));
    }
    for (std::size_t i = 0; i < count; ++i)
      if (!seen_[i]) return bad("input " + describe(signature_.inputs[i]) + " is missing");
    if (!binary_.empty())
      return bad("the body has " + std::to_string(binary_.size()) +
                 " bytes after the JSON that no input's binary_data_size accounts for");
    return {};
  }

  Result<void> read_input(element input, std::size_t place) {
    const std::string at = "inputs[" + std::to_string(place) + "]";
    std::string_view name;
    std::string_view datatype;
    if (!input.is_object())
      return bad(at + ": " + json_text(input) +
                 " came, an object with name, datatype, shape and data is expected");
    if (input["name"].get_string().get(name))
      return bad(at + ": name " + came(input["name"]) + ", expected " +
                 describe(signature_.inputs));
    const std::size_t index = find(signature_.inputs, name);
    if (index == signature_.inputs.size())
      return bad("input " + in_quotes(name) + ": no such input; expected " +
                 describe(signature_.inputs));
    const TensorSpec& spec = signature_.inputs[index];
    if (seen_[index]) return bad("input " + in_quotes(name) + " is there twice");
    seen_[index] = true;
    if (input["datatype"].get_string().get(datatype) || datatype != dtype_name(spec.dtype))
      return bad("input " + in_quotes(name) + ": datatype " + came(input["datatype"]) + ", " +
                 std::string(dtype_name(spec.dtype)) + " is expected");
    const auto shape = LOAM_TRY(read_shape(input, spec));
    return read_content(input, spec, shape, index);
  }

  Result<std::vector<std::int64_t>> read_shape(element input, const TensorSpec& spec) {
    array dims;
    const auto wrong = [&] {
      return bad("input " + in_quotes(spec.name) + ": shape " + came(input["shape"]) + ", " +
                 spec.shape_text() + " is expected (-1: the rows, 1 to " +
                 std::to_string(rows_max_) + ")");
    };
    if (input["shape"].get_array().get(dims) || dims.size() != spec.row_shape.size() + 1)
      return wrong();
    std::vector<std::int64_t> shape;
    for (const element dim : dims) {
      std::int64_t size = 0;
      if (dim.get_int64().get(size)) return wrong();
      shape.push_back(size);
    }
    if (!std::equal(spec.row_shape.begin(), spec.row_shape.end(), shape.begin() + 1) ||
        shape[0] < 1)
      return wrong();
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
                   json_text(binary_size.value_unsafe()) + " came, shape " + shape_text(shape) +
                   " expects " + std::to_string(size_bytes));
      if (size > binary_.size())
        return bad("input " + in_quotes(spec.name) + ": " + std::to_string(binary_.size()) +
                   " bytes are left in the body, binary_data_size is " + std::to_string(size));
      const std::string_view bytes = binary_.substr(0, size);
      if (const auto odd = bytes.find_first_not_of(std::string_view("\0\1", 2));
          spec.dtype == DType::boolean && odd != std::string_view::npos)
        return bad("input " + in_quotes(spec.name) + ": byte " + std::to_string(odd) +
                   " of its binary data is no BOOL; expected 0 or 1");
      result_.inputs[index] = std::as_bytes(std::span(bytes));
      binary_.remove_prefix(size);
      return {};
    }
    if (!has_data)
      return bad("input " + in_quotes(spec.name) + ": data " + came(input["data"]) + ", " +
                 std::to_string(size_bytes / dtype_size_bytes(spec.dtype)) + " values of " +
                 std::string(dtype_name(spec.dtype)) +
                 " are expected in a list, or parameters with binary_data_size " +
                 std::to_string(size_bytes));
    result_.decoded[index].resize(size_bytes);
    LOAM_CHECK(read_data(data, spec, shape, result_.decoded[index]));
    result_.inputs[index] = result_.decoded[index];
    return {};
  }

  Result<void> read_outputs(object document) {
    const bool all_binary = bool_or(document["parameters"]["binary_data_output"], false);
    array outputs;
    const bool listed = document["outputs"].get_array().get(outputs) == simdjson::SUCCESS;
    if (!listed && !document["outputs"].error())
      return bad("outputs " + came(document["outputs"]) + ", a list is expected of " +
                 describe(signature_.outputs));
    if (!listed || outputs.size() == 0) {  // an empty list asks for nothing in particular
      for (std::size_t i = 0; i < signature_.outputs.size(); ++i)
        result_.outputs.push_back({i, all_binary});
      return {};
    }
    for (const element output : outputs) {
      std::string_view name;
      if (output["name"].get_string().get(name))
        return bad("outputs: " + json_text(output) + " came, an object with a name is expected of " +
                   describe(signature_.outputs));
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

  static constexpr std::size_t kKeptBytesMax = 1u << 20;

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
