// Tells when the kernel's OOM killer has struck in the attempt's memory cgroup (v1 and v2).
#pragma once

#include <poll.h>

#include <string>

#include "base/fd.h"
#include "sandbox/cgroup.h"

namespace loam::shim {

class MemoryWatch {
 public:
  // Watches nothing where there is no memory controller: then the counter is read at the end alone.
  explicit MemoryWatch(const sandbox::CgroupPaths& cgroup);

  pollfd poll_entry() const { return {fd_.get(), static_cast<short>(v2_ ? POLLPRI : POLLIN), 0}; }
  void acknowledge();

 private:
  void watch_v1(const std::string& folder);
  void watch_v2(const std::string& folder);

  bool v2_ = false;
  Fd fd_;       // eventfd (v1) or memory.events (v2)
  Fd control_;  // v1: memory.oom_control must stay open
};

}  // namespace loam::shim
