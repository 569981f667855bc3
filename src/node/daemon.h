// Into the background, with word back to whoever started it.
#pragma once

#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "node/paths.h"

namespace loam::node {

// What the parent waits for: an answer that the node listens, or why it does not.
// The service manager's too, where one waits (Type=notify).
class Readiness {
 public:
  Readiness() = default;  // in the foreground: nobody waits
  explicit Readiness(Fd pipe) : pipe_(std::move(pipe)) {}
  void ready();
  void failed(const std::string& why);

 private:
  Fd pipe_;
};

// One datagram to NOTIFY_SOCKET (sd_notify(3)): "READY=1". Nothing where there is none.
void tell_service_manager(const std::string& text);

struct Daemonized {
  bool parent = false;  // the caller returns `status`
  int status = 0;
  Readiness readiness;  // in the daemon
};

// Forks twice with its own session; the daemon's standard streams are /dev/null. In the parent it
// returns when the daemon has spoken or died; the daemon's error goes to standard error.
Result<Daemonized> daemonize();
// Standard output and error to the log from here on; a log over 16 MiB is first set aside as
// PATH.1.
Result<void> log_to(const std::string& path, const Identity& identity);

}  // namespace loam::node
