// NVIDIA's GPUs as units like any others: which nodes each needs, what a job is told of them.
//
//   GpuInventory ─▶ DeviceUnit (kind "gpu") ─▶ scheduler, locks, drains    links ─▶ sched::Link
//   granted units ─▶ nodes, libraries of the host's driver, CUDA_VISIBLE_DEVICES ─▶ AttemptPlan
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "api/attempt.h"
#include "devices/gpus.h"
#include "node/device_units.h"

namespace loam::node {

inline constexpr const char* kGpuKind = "gpu";
inline constexpr const char* kDriverFolder = "/loam/nvidia";  // in the job

// A GPU in MIG mode is followed by its slices, which name it as their parent; the others are shared by
// as many as `time_slices` says.
std::vector<DeviceUnit> gpu_units(const devices::GpuInventory& inventory,
                                  std::uint32_t time_slices = 1);
std::vector<sched::Link> gpu_links(const devices::GpuInventory& inventory);

// CUDA_VISIBLE_DEVICES and NVIDIA_VISIBLE_DEVICES, where any of the units is a GPU.
void show_gpus(const std::vector<GrantedUnit>& units,
               std::vector<std::pair<std::string, std::string>>& variables);
// The host's driver's libraries, where the loader finds them, and its other files.
void add_driver(const DriverFiles& driver, api::AttemptPlan& plan);

// Who uses it besides Loam's jobs, or why the driver cannot use it. A GPU with time slices may have
// other jobs' processes; any other has none now.
std::optional<DeviceTrouble> gpu_trouble(const GrantedUnit& granted, const Json& state,
                                         const std::vector<std::string>& ignored);
// The Xid event's units; none where the fault is a program's.
std::vector<std::string> units_of_xid(const std::vector<DeviceUnit>& units,
                                      const devices::GpuInventory& inventory, const Json& event);

}  // namespace loam::node
