// The disk below the node's state: what it is and what is left of it.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace loam::node {

struct Disk {
  std::string filesystem;  // "ext4", "nfs", "0x1234" where unknown
  bool network = false;    // locks and renames are not to be trusted: refused for state
  bool vanishes = false;   // a tmpfs: state ends with the boot
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;  // to this process
};

Result<Disk> look_at_disk(const std::string& path);
// unavailable with the mend where the folder is on a network filesystem.
Result<void> refuse_network_filesystem(const std::string& path);

}  // namespace loam::node
