// The numbers of one input in JSON, flat or nested, to its bytes; and the words that its findings
// share with those of the request around it (infer_decode.cc).
#pragma once

#include <simdjson.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "channel/signature.h"

namespace loam::gateway {

tl::unexpected<Error> bad(std::string text);  // 400
std::string in_quotes(std::string_view name);
std::string json_text(simdjson::dom::element value);  // its start where it is long
std::string shape_text(const std::vector<std::int64_t>& shape);

// Fills `out` (its size is that of `shape`) in row-major order.
Result<void> read_data(simdjson::dom::array values, const channel::TensorSpec& spec,
                       const std::vector<std::int64_t>& shape, std::vector<std::byte>& out);

}  // namespace loam::gateway
