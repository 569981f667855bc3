// Packages, cores, caches and NUMA nodes as hwloc sees them. The one place that includes it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace loam::devices {

// {"packages","cores","threads","numa":[{"threads"}],"caches":[{"level","kind","size_bytes","count"}]};
// null where hwloc cannot read the machine.
Json read_topology();

struct Cpu {
  std::uint32_t id = 0;     // the kernel's number
  std::uint32_t core = 0;   // machine-wide; hardware threads of one core share it
  std::uint32_t numa = 0;   // index into Cpus::nodes
  std::uint32_t cache = 0;  // cores with the same last-level cache share it; machine-wide
  bool operator==(const Cpu&) const = default;
};
struct NumaNode {
  std::uint32_t id = 0;  // the kernel's number
  std::uint64_t memory_bytes = 0;
};
struct Cpus {
  std::vector<Cpu> cpus;        // those that this process may use; threads of a core stand together
  std::vector<NumaNode> nodes;  // at least one
};
// `synthetic`: a made-up machine in hwloc's notation ("pack:2 core:4 pu:2"), for tests.
Result<Cpus> read_cpus(const std::string& synthetic = "");

}  // namespace loam::devices
