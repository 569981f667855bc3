// What a user's mount must not bring into a sandbox, though it lies below the mounted folder: the
// host's /proc, /sys and /dev (the user's other processes, by /proc/PID/root), and Loam's state.
//
//   opened folder ─ its real path ─ mountinfo, masks ─▶ refused │ places to cover once it is
//   mounted
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace loam::sandbox {

struct MountPoint {
  std::string id;
  std::string path;
  std::string type;
};

// The mounts of this process's namespace, as the kernel lists them.
Result<std::vector<MountPoint>> list_mounts();
// From the text of a mountinfo file (proc_pid_mountinfo(5)).
std::vector<MountPoint> parse_mounts(const std::string& mountinfo);

// Where the paths really are; what does not exist stays as it is.
std::vector<std::string> real_paths(const std::vector<std::string>& paths);

// Paths relative to the opened folder ("/proc") that are to be covered. denied: the folder itself
// belongs to the kernel or, where a user asked for it, lies in one of masks (real paths).
Result<std::vector<std::string>> hidden_below(int fd, bool of_user,
                                              const std::vector<std::string>& masks,
                                              const std::vector<MountPoint>& mounts);

}  // namespace loam::sandbox
