// The locks of an attempt's devices, from before its sandbox is made until no process of it is left.
#pragma once

#include <string>
#include <vector>

#include "api/attempt.h"
#include "base/fd.h"
#include "base/result.h"
#include "sandbox/pid_namespace.h"

namespace loam::shim {

class HeldDevices {
 public:
  // All or none; busy: says who holds one, and busy_device() which.
  Result<void> take(const api::AttemptPlan& plan);
  const std::string& busy_device() const { return busy_device_; }
  // Where no cgroup tells the next holder what it must wait for, the pid namespace does.
  Result<void> name_namespace(const api::AttemptPlan& plan, const sandbox::PidNamespace& pids);
  void release() { exclusive_.clear(), shared_.clear(); }

 private:
  std::vector<Fd> exclusive_, shared_;
  std::string busy_device_;
};

}  // namespace loam::shim
