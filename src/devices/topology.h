// Packages, cores, caches and NUMA nodes as hwloc sees them. The one place that includes it.
#pragma once

#include "base/json.h"

namespace loam::devices {

// {"packages","cores","threads","numa":[{"memory_bytes"}],"caches":[{"level","kind","size_bytes","count"}]};
// null where hwloc cannot read the machine.
Json read_topology();

}  // namespace loam::devices
