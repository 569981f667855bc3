// Who holds a TCP port of this host, for an endpoint that finds it taken: the gateway's sandbox
// shows it no process but its own, so the node looks.
//
// Source: proc(5), /proc/net/tcp and /proc/PID/fd. Reads the descriptors of every process: call it on
// a worker.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace loam::node {

struct PortHolder {
  std::uint32_t uid = 0;  // as this process's user namespace shows it
  std::int64_t pid = 0;   // 0 where its descriptors are not ours to see
  std::string program;
  bool listens = false;   // else a connection has the port, which ends by itself
};

// `address`: "127.0.0.1:8000", "[::1]:8000" or "localhost:8000".
std::optional<PortHolder> port_holder(const std::string& address);

// "python3 (pid 123)", or where that may not be told "a process of user alice (uid 1001)".
std::string holder_text(const PortHolder& holder, bool may_name);

}  // namespace loam::node
