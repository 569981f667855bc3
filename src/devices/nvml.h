// NVIDIA's management library, loaded at run time: Loam links none of it. It lives in a process of
// its own (node/gpu_helper_main.h), for a call can take seconds, or not come back, on a sick driver.
//
//   libnvidia-ml.so.1 ── inventory() ──▶ GpuInventory   once, and when asked again
//                     ── states() ──▶ processes, readings, GPUs that are lost
//                     ── wait_for_xid() ──▶ one error of the driver's log
//
// What a driver does not know (an old one, or a GPU without the feature) is an absent fact; only the
// library's start and the number of GPUs must succeed. Threads: any; the library locks itself.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "devices/gpus.h"

namespace loam::devices {

inline constexpr const char* kNvmlLibrary = "libnvidia-ml.so.1";

class Nvml {
 public:
  // not_found where there is no library; unavailable where it has no driver under it.
  static Result<std::unique_ptr<Nvml>> load(const std::string& library);
  ~Nvml();

  Result<GpuInventory> inventory();
  GpuStates states();

  struct Xid {
    std::string uuid;  // of the GPU; "" where the library does not say which
    std::uint64_t xid = 0;
    std::optional<std::uint32_t> gpu_instance;  // of the MIG slice that it is about
  };
  // None after the time. unavailable where this driver tells no events.
  Result<std::optional<Xid>> wait_for_xid(std::chrono::milliseconds time);

 private:
  struct Impl;
  explicit Nvml(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace loam::devices
