#include "node/disk.h"

#include <sys/statfs.h>

#include <array>
#include <cstdio>

namespace loam::node {
namespace {

struct Kind {
  std::uint32_t magic;  // statfs(2)
  const char* name;
  bool network;
};

constexpr std::array<Kind, 17> kKinds{{
    {0xEF53, "ext4", false},
    {0x58465342, "xfs", false},
    {0x9123683E, "btrfs", false},
    {0x2FC12FC1, "zfs", false},
    {0xF2F52010, "f2fs", false},
    {0x01021994, "tmpfs", false},
    {0x794C7630, "overlayfs", false},
    {0x6969, "nfs", true},
    {0xFF534D42, "cifs", true},
    {0xFE534D42, "smb", true},
    {0x01021997, "9p", true},
    {0x00C36400, "ceph", true},
    {0x0BD00BD0, "lustre", true},
    {0x47504653, "gpfs", true},
    {0x5346414F, "afs", true},
    {0x7461636F, "ocfs2", true},
    {0x73757245, "coda", true},
}};

}  // namespace

Result<Disk> look_at_disk(const std::string& path) {
  struct statfs status {};
  if (::statfs(path.c_str(), &status) != 0) return fail_errno(path);
  Disk disk;
  const auto block = static_cast<std::uint64_t>(status.f_bsize);
  disk.total_bytes = status.f_blocks * block;
  disk.free_bytes = status.f_bavail * block;
  const auto magic = static_cast<std::uint32_t>(status.f_type);
  for (const Kind& kind : kKinds) {
    if (kind.magic != magic) continue;
    disk.filesystem = kind.name;
    disk.network = kind.network;
    disk.vanishes = disk.filesystem == "tmpfs";
    return disk;
  }
  char number[16];
  std::snprintf(number, sizeof number, "0x%x", magic);
  disk.filesystem = number;
  return disk;
}

Result<void> refuse_network_filesystem(const std::string& path) {
  const Disk disk = LOAM_TRY(look_at_disk(path));
  if (disk.network)
    return fail(ErrorCode::unavailable,
                path + " is on a network filesystem (" + disk.filesystem +
                    "), where state is not safe: set LOAM_STATE_DIR to a folder on a local disk");
  return {};
}

}  // namespace loam::node
