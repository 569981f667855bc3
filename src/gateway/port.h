// The endpoint's port: bound once, without sharing; a taken one is an error that names its holder.
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
// resolver here.
Result<Listener> listen_on(const std::string& address);

// "python3 (pid 4711)" for whoever listens on the TCP port, as far as /proc shows it to us; else
// "".
std::string port_holder(int port);

}  // namespace loam::gateway
