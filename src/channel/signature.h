// What a model takes and gives: named tensors with a datatype and the shape of one row. The worker
// declares it when it connects; the gateway checks requests against it and lays the slots out by
// it.
//
// Trust: signature_from() reads a worker's bytes; every limit is checked there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace loam::channel {

enum class DType : std::uint32_t {
  boolean = 1,
  uint8,
  uint16,
  uint32,
  uint64,
  int8,
  int16,
  int32,
  int64,
  fp16,
  fp32,
  fp64
};

// Names as the Open Inference Protocol spells them ("FP32").
std::string_view dtype_name(DType dtype);
std::optional<DType> dtype_from(std::string_view name);
std::size_t dtype_size_bytes(DType dtype);

inline constexpr std::size_t kTensorNameBytesMax = 128;
inline constexpr std::uint64_t kRowBytesMax = 64u << 20;

struct TensorSpec {
  std::string name;
  DType dtype = DType::fp32;
  std::vector<std::int64_t> row_shape;  // without the leading dimension of rows

  std::uint64_t row_elements() const;
  std::uint64_t row_bytes() const;
  std::string shape_text() const;  // "[-1, 64]"
  bool operator==(const TensorSpec&) const = default;
};

struct Signature {
  std::vector<TensorSpec> inputs;
  std::vector<TensorSpec> outputs;
  bool operator==(const Signature&) const = default;
};

// {"inputs": [{"name", "datatype", "shape": [-1, 64]}], "outputs": [...]}
Json to_json(const Signature& signature);
Json to_json(const std::vector<TensorSpec>& specs);
Result<Signature> signature_from(const Json& document);

}  // namespace loam::channel
