#include "gateway/infer_data.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "base/text.h"
#include "gateway/half.h"

namespace loam::gateway {
namespace {

using channel::DType;
using channel::TensorSpec;
using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

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

constexpr std::size_t kShownBytesMax = 64;  // of a value that an error shows
constexpr std::size_t kShownDimsMax = 16;

// Stops soon after the text is long enough, so a body of many megabytes costs no more than its start.
void append_json(element value, std::string& text) {
  array list;
  object members;
  std::string_view words;
  std::string_view separator;
  if (value.get_array().get(list) == simdjson::SUCCESS) {
    text += '[';
    for (const element item : list) {
      if (text.size() > kShownBytesMax) return;
      text += std::exchange(separator, ", ");
      append_json(item, text);
    }
    text += ']';
  } else if (value.get_object().get(members) == simdjson::SUCCESS) {
    text += '{';
    for (const auto [key, member] : members) {
      if (text.size() > kShownBytesMax) return;
      text += std::string(std::exchange(separator, ", ")) + '"' +
              std::string(key.substr(0, kShownBytesMax)) + "\": ";
      append_json(member, text);
    }
    text += '}';
  } else if (value.get_string().get(words) == simdjson::SUCCESS) {
    text += '"' + std::string(words.substr(0, kShownBytesMax + 1)) + '"';
  } else {
    text += simdjson::minify(value);
  }
}

// How deep the lists go and how long the first of each level is.
std::vector<std::int64_t> nesting(array values) {
  std::vector<std::int64_t> sizes;
  while (sizes.size() < kShownDimsMax) {
    sizes.push_back(static_cast<std::int64_t>(values.size()));
    if (values.at(0).get_array().get(values) != simdjson::SUCCESS) break;
  }
  return sizes;
}

// Writes `data` of one input, flat or nested as its shape, in row-major order.
class DataReader {
 public:
  DataReader(const TensorSpec& spec, const std::vector<std::int64_t>& shape,
             std::vector<std::byte>& out)
      : spec_(spec), shape_(shape), out_(out), put_(put_number_for(spec.dtype)) {}

  Result<void> read(array values) {
    whole_ = values;
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
                   " of data is " + json_text(value) + ", expected " +
                   std::string(dtype_name(spec_.dtype)));
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
    const std::vector<std::int64_t> came = nesting(whole_);
    const std::string found = came == shape_ ? "data came in lists of unequal length"
                                             : "data nested as " + shape_text(came) + " came";
    return bad("input " + in_quotes(spec_.name) + ": " + found + ", a flat list of " +
               std::to_string(out_.size() / size()) + " values or lists nested as shape " +
               shape_text(shape_) + " is expected");
  }

  const TensorSpec& spec_;
  const std::vector<std::int64_t>& shape_;
  std::vector<std::byte>& out_;
  PutNumber put_;
  array whole_;
  std::size_t written_bytes_ = 0;
};

}  // namespace

tl::unexpected<Error> bad(std::string text) { return fail(ErrorCode::invalid, std::move(text)); }

std::string in_quotes(std::string_view name) { return "'" + printable(name.substr(0, 200)) + "'"; }

std::string json_text(element value) {
  std::string text;
  append_json(value, text);
  if (text.size() <= kShownBytesMax) return printable(text);
  std::size_t end = kShownBytesMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // whole characters
  return printable(std::string_view(text).substr(0, end)) + "…";
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::vector<std::string> parts;
  for (const std::int64_t size : shape) parts.push_back(std::to_string(size));
  return "[" + join(parts, ", ") + "]";
}

Result<void> read_data(simdjson::dom::array values, const TensorSpec& spec,
                       const std::vector<std::int64_t>& shape, std::vector<std::byte>& out) {
  return DataReader(spec, shape, out).read(values);
}

}  // namespace loam::gateway
