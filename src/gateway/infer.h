// One inference request and its answer in the Open Inference Protocol v2, JSON and binary tensors.
//
//   HTTP body ─decode_infer─▶ InferRequest: rows of each input ─▶ batch … outputs' rows
//   ─encode_infer─▶ body
//
// Source: Open Inference Protocol, REST v2, and its binary tensor data extension. Trust: requests
// are foreign; framing, names, datatypes, shapes, sizes and counts are all checked here, before a
// row is taken. Outputs are a worker's bytes: their number is fixed by the signature, their content
// means nothing to us.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "channel/signature.h"
#include "gateway/exchange.h"

namespace loam::gateway {

inline constexpr std::size_t kRequestIdBytesMax = 256;  // the client's own `id`
inline constexpr std::size_t kRequestTensorsMax = 32;

struct OutputChoice {
  std::size_t tensor = 0;  // in the signature
  bool binary = false;
};

struct InferRequest {
  std::optional<std::string> id;  // comes back where it was given, also empty
  std::uint32_t rows = 0;
  // In the signature's order; they point into the request's body, or into `decoded`.
  std::vector<std::span<const std::byte>> inputs;
  std::vector<std::vector<std::byte>> decoded;
  std::vector<OutputChoice> outputs;
};

// The request must outlive the result and its body may not move.
Result<InferRequest> decode_infer(const HttpRequest& request, const channel::Signature& signature,
                                  std::uint32_t rows_max);

struct ModelName {
  std::string name;
  std::string version;
};
// `outputs`: where each output of the signature begins for this request's rows.
HttpResponse encode_infer(const ModelName& model, const channel::Signature& signature,
                          const InferRequest& request,
                          const std::vector<const std::byte*>& outputs);

}  // namespace loam::gateway
