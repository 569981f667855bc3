#include "channel/signature.h"

#include <array>
#include <utility>

#include "base/text.h"
#include "channel/abi/loam_channel.h"

namespace loam::channel {
namespace {

struct DTypeFacts {
  std::string_view name;
  std::size_t size_bytes;
};
// By DType, from 1.
constexpr std::array<DTypeFacts, 13> kDTypes = {{{"", 0},
                                                 {"BOOL", 1},
                                                 {"UINT8", 1},
                                                 {"UINT16", 2},
                                                 {"UINT32", 4},
                                                 {"UINT64", 8},
                                                 {"INT8", 1},
                                                 {"INT16", 2},
                                                 {"INT32", 4},
                                                 {"INT64", 8},
                                                 {"FP16", 2},
                                                 {"FP32", 4},
                                                 {"FP64", 8}}};

Result<std::vector<std::int64_t>> row_shape_from(const Json& shape) {
  const auto& dims = shape.as_array();
  if (!shape.is_array() || dims.empty() || dims.size() > LOAM_CHANNEL_DIMS_MAX)
    return fail(ErrorCode::invalid, "shape must be a list of 1 to 8 dimensions");
  if (dims[0].as_int(0) != -1)
    return fail(ErrorCode::invalid, "the first dimension must be -1: it is the rows of a batch");
  std::vector<std::int64_t> row_shape;
  for (std::size_t i = 1; i < dims.size(); ++i) {
    const std::int64_t size = dims[i].as_int(0);
    if (size < 1 || static_cast<std::uint64_t>(size) > kRowBytesMax)
      return fail(ErrorCode::invalid,
                  "dimension " + std::to_string(i) +
                      " must be a fixed size of at least 1 (only the first may be -1)");
    row_shape.push_back(size);
  }
  return row_shape;
}

Result<TensorSpec> tensor_from(const Json& document) {
  TensorSpec spec;
  spec.name = LOAM_TRY(document.string_at("name"));
  if (spec.name.empty() || spec.name.size() > kTensorNameBytesMax ||
      printable(spec.name) != spec.name)
    return fail(ErrorCode::invalid, "tensor name must be 1 to 128 printable bytes");
  const std::string datatype = LOAM_TRY(document.string_at("datatype"));
  const auto dtype = dtype_from(datatype);
  if (!dtype)
    return fail(ErrorCode::invalid, spec.name + ": unknown datatype '" + printable(datatype) + "'");
  spec.dtype = *dtype;
  auto row_shape = row_shape_from(document["shape"]);
  if (!row_shape) return in_context(spec.name, row_shape.error());
  spec.row_shape = std::move(*row_shape);
  std::uint64_t bytes = dtype_size_bytes(spec.dtype);
  for (const std::int64_t size : spec.row_shape) {
    bytes *=
        static_cast<std::uint64_t>(size);  // both factors are at most 2^26 before the check below
    if (bytes > kRowBytesMax)
      return fail(ErrorCode::too_large, spec.name + ": a row is over " + format_size(kRowBytesMax));
  }
  return spec;
}

Result<std::vector<TensorSpec>> tensors_from(const Json& list, std::string_view which) {
  if (!list.is_array() || list.size() == 0)
    return fail(ErrorCode::invalid, "signature has no " + std::string(which));
  if (list.size() > LOAM_CHANNEL_TENSORS_MAX)
    return fail(ErrorCode::too_large, "signature has over 16 " + std::string(which));
  std::vector<TensorSpec> specs;
  for (const Json& item : list.as_array()) {
    auto spec = tensor_from(item);
    if (!spec) return in_context(which, spec.error());
    for (const TensorSpec& other : specs)
      if (other.name == spec->name)
        return fail(ErrorCode::invalid,
                    std::string(which) + ": '" + spec->name + "' is there twice");
    specs.push_back(std::move(*spec));
  }
  return specs;
}

}  // namespace

std::string_view dtype_name(DType dtype) {
  return kDTypes.at(static_cast<std::size_t>(dtype)).name;
}

std::optional<DType> dtype_from(std::string_view name) {
  for (std::size_t i = 1; i < kDTypes.size(); ++i)
    if (kDTypes[i].name == name) return static_cast<DType>(i);
  return std::nullopt;
}

std::size_t dtype_size_bytes(DType dtype) {
  return kDTypes.at(static_cast<std::size_t>(dtype)).size_bytes;
}

std::uint64_t TensorSpec::row_elements() const {
  std::uint64_t count = 1;
  for (const std::int64_t size : row_shape) count *= static_cast<std::uint64_t>(size);
  return count;
}

std::uint64_t TensorSpec::row_bytes() const { return row_elements() * dtype_size_bytes(dtype); }

std::string TensorSpec::shape_text() const {
  std::string text = "[-1";
  for (const std::int64_t size : row_shape) text += ", " + std::to_string(size);
  return text + "]";
}

Json to_json(const std::vector<TensorSpec>& specs) {
  Json list = Json::array();
  for (const TensorSpec& spec : specs) {
    Json shape = Json::array({-1});
    for (const std::int64_t size : spec.row_shape) shape.push(size);
    list.push(Json::object(
        {{"name", spec.name}, {"datatype", dtype_name(spec.dtype)}, {"shape", std::move(shape)}}));
  }
  return list;
}

Json to_json(const Signature& signature) {
  return Json::object(
      {{"inputs", to_json(signature.inputs)}, {"outputs", to_json(signature.outputs)}});
}

Result<Signature> signature_from(const Json& document) {
  Signature signature;
  signature.inputs = LOAM_TRY(tensors_from(document["inputs"], "inputs"));
  signature.outputs = LOAM_TRY(tensors_from(document["outputs"], "outputs"));
  if (signature.inputs.size() + signature.outputs.size() > LOAM_CHANNEL_TENSORS_MAX)
    return fail(ErrorCode::too_large, "signature has over 16 inputs and outputs together");
  return signature;
}

}  // namespace loam::channel
