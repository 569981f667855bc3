// Files of the Container Device Interface about NVIDIA GPUs (nvidia-ctk cdi generate), where a machine
// has them: nodes beside a GPU's own (/dev/dri/…), and the files of the driver that its jobs need.
//
//   /etc/cdi/*.yaml, *.json of kind nvidia.com/gpu ── read_cdi() ──▶ Cdi ── add_cdi() ──▶ DeviceUnit
//
// Environment variables and hooks of the files are for container runtimes and not used: Loam says
// itself which GPUs are visible and where the libraries are. Source: the CDI specification 0.3 to 1.0
// (tags.cncf.io/container-device-interface). Trust: the folders are the administrator's; what is
// written there is read with loam.yaml's limits.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "devices/gpus.h"
#include "node/device_units.h"

namespace loam::node {

struct Cdi {
  std::vector<std::string> files;  // that were read
  std::map<std::string, std::vector<std::string>> nodes;  // of each device by its name: "0", "GPU-…", "0:1"
  std::vector<std::string> common;                        // nodes that come with each
  struct Mount {
    std::string from, to;
    bool operator==(const Mount&) const = default;
  };
  std::vector<Mount> mounts;
};
// Folders that are not there are empty. invalid: a file of that kind that cannot be read.
Result<Cdi> read_cdi(const std::vector<std::string>& folders);

// To the units of GPUs the nodes that the files name for them, in the order of the inventory.
void add_cdi(const Cdi& cdi, const devices::GpuInventory& inventory, std::vector<DeviceUnit>& units);
// The driver's libraries and other files as the files have them.
void add_cdi(const Cdi& cdi, DriverFiles& driver);

}  // namespace loam::node
