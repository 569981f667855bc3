// Messages between a push and `loam __receive`: u32 bytes (little endian), then JSON.
#pragma once

#include "base/json.h"
#include "base/result.h"

namespace loam::boxes {

inline constexpr std::size_t kMessageBytesMax = 256u << 20;

Result<void> write_message(int fd, const Json& message);
// cancelled: the other side is gone.
Result<Json> read_message(int fd);

// {"error": {code, text}} ↔ Error.
Json error_message(const Error& error);

}  // namespace loam::boxes
