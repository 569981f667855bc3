#include <charconv>
#include <cmath>
#include <cstring>

#include "gateway/half.h"
#include "gateway/infer.h"

namespace loam::gateway {
namespace {

using channel::DType;
using channel::TensorSpec;

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class T>
void append_number(std::string& out, T value) {
  if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(value)) {  // JSON has no word for it
      out += "null";
      return;
    }
  }
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value);
  out.append(buffer, end.ptr);
}

void append_value(std::string& out, DType dtype, const std::byte* from) {
  switch (dtype) {
    case DType::boolean:
      out += load<std::uint8_t>(from) != 0 ? "true" : "false";
      return;
    case DType::uint8:
      return append_number(out, load<std::uint8_t>(from));
    case DType::uint16:
      return append_number(out, load<std::uint16_t>(from));
    case DType::uint32:
      return append_number(out, load<std::uint32_t>(from));
    case DType::uint64:
      return append_number(out, load<std::uint64_t>(from));
    case DType::int8:
      return append_number(out, load<std::int8_t>(from));
    case DType::int16:
      return append_number(out, load<std::int16_t>(from));
    case DType::int32:
      return append_number(out, load<std::int32_t>(from));
    case DType::int64:
      return append_number(out, load<std::int64_t>(from));
    case DType::fp16:
      return append_number(out, float_of_half(load<std::uint16_t>(from)));
    case DType::fp32:
      return append_number(out, load<float>(from));
    case DType::fp64:
      return append_number(out, load<double>(from));
  }
}

void append_data(std::string& out, const TensorSpec& spec, std::uint32_t rows,
                 const std::byte* from) {
  const std::size_t step = dtype_size_bytes(spec.dtype);
  const std::size_t count = spec.row_elements() * rows;
  out += '[';
  for (std::size_t i = 0; i < count; ++i) {
    if (i != 0) out += ',';
    append_value(out, spec.dtype, from + i * step);
  }
  out += ']';
}

std::string json_text(std::string_view text) { return Json(text).dump(); }

}  // namespace

HttpResponse encode_infer(const ModelName& model, const channel::Signature& signature,
                          const InferRequest& request,
                          const std::vector<const std::byte*>& outputs) {
  std::string out =
      "{\"model_name\":" + json_text(model.name) + ",\"model_version\":" + json_text(model.version);
  if (request.id) out += ",\"id\":" + json_text(*request.id);
  out += ",\"outputs\":[";
  bool any_binary = false;
  for (const OutputChoice& choice : request.outputs) {
    const TensorSpec& spec = signature.outputs.at(choice.tensor);
    if (out.back() != '[') out += ',';
    out += "{\"name\":" + json_text(spec.name) + ",\"datatype\":\"" +
           std::string(dtype_name(spec.dtype)) + "\",\"shape\":[" + std::to_string(request.rows);
    for (const std::int64_t size : spec.row_shape) out += "," + std::to_string(size);
    out += "],";
    if (choice.binary) {
      any_binary = true;
      out += "\"parameters\":{\"binary_data_size\":" +
             std::to_string(spec.row_bytes() * request.rows) + "}";
    } else {
      out += "\"data\":";
      append_data(out, spec, request.rows, outputs.at(choice.tensor));
    }
    out += '}';
  }
  out += "]}";
  HttpResponse response;
  if (any_binary) response.inference_header = out.size();
  for (const OutputChoice& choice : request.outputs)
    if (choice.binary)
      out.append(reinterpret_cast<const char*>(outputs[choice.tensor]),
                 signature.outputs[choice.tensor].row_bytes() * request.rows);
  response.body = std::move(out);
  return response;
}

}  // namespace loam::gateway
