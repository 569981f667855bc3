// The device guard: a BPF program on the attempt's v2 cgroup. Works on a v2 mount without any
// controller.
#pragma once

#include <string>

#include "base/result.h"

namespace loam::sandbox {

// From now on, processes of the group open (and make) only null, zero, full, random, urandom, tty,
// ptmx and ptys. It stays for as long as the group. denied where this process may not load
// programs.
Result<void> restrict_devices(const std::string& cgroup_v2);

}  // namespace loam::sandbox
