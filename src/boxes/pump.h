// A Mux on the descriptors of its stream: writes what it has to say, reads what comes. Used by both
// ends.
#pragma once

#include "base/result.h"
#include "boxes/mux.h"

namespace loam::boxes {

// Sends the front of `out` until the descriptor, which must not block, takes no more.
Result<void> pump_out(int fd, std::string& out);
// Hands on what the descriptor holds. False: the stream has ended.
Result<bool> pump_in(int fd, const std::function<Result<void>(std::string_view)>& take);
Result<void> set_nonblocking(int fd);

}  // namespace loam::boxes
