// The device guard: a BPF program on the attempt's v2 cgroup, which works on a v2 mount without any
// controller; v1's devices controller where that is what the host has.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "sandbox/cgroup.h"

namespace loam::sandbox {

// A device of the host that a job is given.
struct DeviceNode {
  std::string path;  // below /dev, the same inside
  bool block = false;
  std::uint32_t major_number = 0;
  std::uint32_t minor_number = 0;
  bool operator==(const DeviceNode&) const = default;
};
// What lies there now. invalid: no device.
Result<DeviceNode> device_node_at(const std::string& path);

// For jobs without devices of their own: one program serves any number of groups. To load it takes the kernel 0.16 ms
// (2 cores, 2026-11-25), to attach it 0.05. denied where this process may not load programs.
Result<Fd> load_device_program();

// From now on, processes of the group open (and make) only null, zero, full, random, urandom, tty,
// ptmx, ptys and what is `assigned`. It stays for as long as the group. denied where this process
// may not load programs; unavailable where there is neither v2 nor v1's controller. `common_program`:
// load_device_program()'s, or -1 for one of this group's own.
Result<void> restrict_devices(const CgroupPaths& cgroup, const std::vector<DeviceNode>& assigned,
                              int common_program = -1);

}  // namespace loam::sandbox
