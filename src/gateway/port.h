// The endpoint's port: bound once, without sharing.
#pragma once

#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace loam::gateway {

struct Listener {
  Fd socket;            // listening, non-blocking
  std::string address;  // with the port that the kernel chose
};
// "127.0.0.1:8000", "[::1]:8000", "localhost:0". Names other than localhost are refused: no
// resolver here. `exists` where the port is in use; by whom is for the node to see
// (node/port_holder.h), from inside a sandbox other processes are not.
Result<Listener> listen_on(const std::string& address);

}  // namespace loam::gateway
