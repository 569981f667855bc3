// What NVIDIA's driver says of its GPUs, as plain data and as the documents that travel between the
// process that asks the driver (nvml.h) and the node.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace loam::devices {

struct MigSlice {
  std::string uuid;   // "MIG-…"
  std::string model;  // "NVIDIA A100-SXM4-40GB MIG 3g.20gb"
  std::uint32_t gpu_instance = 0, compute_instance = 0;
  std::uint64_t memory_bytes = 0;
  // /dev/nvidia-caps/nvidia-capN that lets a process use the instances; -1: not known.
  std::int32_t gpu_access = -1, compute_access = -1;
};

struct Gpu {
  std::uint32_t index = 0;  // the driver's
  std::string uuid;         // "GPU-…"
  std::string model;
  std::string pci_bus_id;
  std::int32_t minor = -1;  // /dev/nvidiaMINOR; -1: not known
  std::int32_t numa = -1;   // the kernel's number; -1: nowhere in particular
  std::uint64_t memory_bytes = 0;
  bool mig = false;
  std::vector<MigSlice> slices;
};

// Of two GPUs by their places in the list. Larger is faster: NVLinks count a thousand each, PCIe by how much of
// its tree lies between them; pairs that only the processors' links join are not listed.
struct GpuLink {
  std::uint32_t a = 0, b = 0;
  std::uint32_t bandwidth = 0;
};
inline constexpr std::uint32_t kNvlinkBandwidth = 1000;

struct GpuInventory {
  std::string driver;  // "570.148.08"
  std::string cuda;    // "12.8": the newest that this driver runs
  std::string folder;  // where the driver's libraries lie
  std::vector<std::string> libraries;  // of these, those that a job needs: names in `folder`
  std::vector<Gpu> gpus;
  std::vector<GpuLink> links;
};
Json to_json(const GpuInventory& inventory);
Result<GpuInventory> gpu_inventory_from(const Json& document);

// {"GPU-…": {"processes": [pid…], "lost": "why"?, "memory_used_bytes"?, "temperature_c"?, "power_mw"?,
// "power_limit_mw"?, "sm_clock_mhz"?, "memory_clock_mhz"?, "ecc_uncorrected"?}, "MIG-…": {…}}: what the
// driver does not say of a device is left out.
using GpuStates = Json;

// "fallen off the bus", for the Xids that everybody meets; "" for others. Source: the Xid catalogue
// of NVIDIA's GPU deployment documentation.
std::string xid_meaning(std::uint64_t xid);
// What a program's own fault brings about, and leaves the GPU sound: 13, 31, 43, 45, 68, 109.
bool is_xid_of_programs(std::uint64_t xid);

}  // namespace loam::devices
