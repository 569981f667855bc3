// What this machine has to give, as the scheduler takes it: the hardware, less what the
// configuration keeps.
#pragma once

#include <vector>

#include "base/result.h"
#include "devices/host.h"
#include "devices/topology.h"
#include "node/config.h"
#include "sched/machine.h"

namespace loam::node {

struct Hardware {
  devices::Capacity capacity;  // within the limits of the cgroups above this process
  devices::Cpus cpus;          // empty where hwloc cannot read them
};
Hardware read_hardware();

// invalid where the configuration leaves nothing of it.
Result<sched::Machine> machine_for(const LoadedConfig& loaded, const Hardware& hardware,
                                   std::vector<sched::Device> devices,
                                   std::vector<sched::Link> links = {});

}  // namespace loam::node
