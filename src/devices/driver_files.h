// What of the host's NVIDIA driver a job needs beside its GPU: libraries of exactly the kernel
// module's version, and the nodes that stand for MIG slices.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace loam::devices {

// The names in `folder` of the compute libraries of that driver, links to them too: libcuda.so.1,
// libcuda.so.570.148.08, libnvidia-ptxjitcompiler.so.1, …
std::vector<std::string> driver_libraries(const std::string& folder, const std::string& version);

// The minor of the node /dev/nvidia-caps/nvidia-capMINOR that lets a process use a GPU instance, or
// a compute instance of it. `folder`: /proc/driver/nvidia/capabilities, but in tests.
std::optional<std::int32_t> mig_access_minor(const std::string& folder, std::int32_t gpu_minor,
                                              std::uint32_t gpu_instance,
                                              std::optional<std::uint32_t> compute_instance);

}  // namespace loam::devices
