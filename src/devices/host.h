// What this machine is: the host record's content and the scheduler's total. Facts come from the
// kernel's own files and hwloc; nothing here decides.
#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"
#include "base/result.h"

namespace loam::devices {

struct Capacity {
  std::uint32_t cpus = 1;          // usable by this process (affinity and cgroup quota)
  std::uint64_t memory_bytes = 0;  // RAM, or the cgroup's limit where lower
};
Capacity read_capacity();

// Kernel release, version and the SHA-256 of its configuration (/proc/config.gz or
// /boot/config-RELEASE; null where neither is readable), command line digest, distribution, CPU
// model and flags digest, caches and NUMA (hwloc), memory, loaded modules with digest, cgroup mode,
// LSMs, ptrace_scope, clock source.
Json read_host_facts();

}  // namespace loam::devices
