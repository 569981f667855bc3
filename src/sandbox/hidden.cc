#include "sandbox/hidden.h"

#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/files.h"
#include "base/text.h"

namespace loam::sandbox {
namespace {

constexpr std::size_t kMountInfoBytesMax = 16u << 20;
constexpr std::array<std::string_view, 4> kKernelTypes{"proc", "sysfs", "devtmpfs", "devpts"};

bool is_kernels(const MountPoint& mount) {
  return std::find(kKernelTypes.begin(), kKernelTypes.end(), mount.type) != kKernelTypes.end();
}

// Blanks and backslashes are written as \\040 and the like.
std::string unescape(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::string digits = text[i] == '\\' ? text.substr(i + 1, 3) : "";
    if (digits.size() == 3 && digits.find_first_not_of("01234567") == std::string::npos) {
      out += static_cast<char>((digits[0] - '0') * 64 + (digits[1] - '0') * 8 + (digits[2] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

Result<std::string> path_of(int fd) {
  char buffer[PATH_MAX];
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t length = ::readlink(link.c_str(), buffer, sizeof buffer);
  if (length <= 0) return fail_errno("readlink " + link);
  return std::string(buffer, static_cast<std::size_t>(length));
}

Result<std::string> mount_of(int fd) {
  const std::string info = LOAM_TRY(read_file("/proc/self/fdinfo/" + std::to_string(fd), 64 << 10));
  for (const std::string& line : split(info, '\n'))
    if (line.starts_with("mnt_id:")) return std::string(trim(line.substr(7)));
  return fail(ErrorCode::io, "fdinfo without mnt_id");
}

// "" unless path lies below folder.
std::string below(const std::string& path, const std::string& folder) {
  if (path == folder || !starts_with_path(path, folder)) return "";
  return folder == "/" ? path : path.substr(folder.size());
}

}  // namespace

std::vector<MountPoint> parse_mounts(const std::string& mountinfo) {
  std::vector<MountPoint> mounts;
  for (const std::string& line : split(mountinfo, '\n')) {
    const auto fields = split(line, ' ');
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (fields.size() < 7 || dash == fields.end() || dash + 1 == fields.end()) continue;
    mounts.push_back({fields[0], unescape(fields[4]), *(dash + 1)});
  }
  return mounts;
}

Result<std::vector<MountPoint>> list_mounts() {
  return parse_mounts(LOAM_TRY(read_file("/proc/self/mountinfo", kMountInfoBytesMax)));
}

std::vector<std::string> real_paths(const std::vector<std::string>& paths) {
  std::vector<std::string> found;
  for (const std::string& path : paths) {
    char buffer[PATH_MAX];
    found.push_back(::realpath(path.c_str(), buffer) != nullptr ? buffer : path);
  }
  return found;
}

Result<std::vector<std::string>> hidden_below(int fd, bool of_user,
                                              const std::vector<std::string>& masks,
                                              const std::vector<MountPoint>& mounts) {
  const std::string folder = LOAM_TRY(path_of(fd));
  const std::string own_mount = LOAM_TRY(mount_of(fd));
  std::vector<std::string> hidden;
  for (const MountPoint& mount : mounts) {
    if (!is_kernels(mount)) continue;
    if (of_user && mount.id == own_mount)
      return fail(ErrorCode::denied, "belongs to the kernel (" + mount.type +
                                         "); jobs have a /proc, /sys and /dev of their own");
    if (std::string place = below(mount.path, folder); !place.empty())
      hidden.push_back(std::move(place));
  }
  for (const std::string& own : masks) {
    if (of_user && starts_with_path(folder, own))
      return fail(ErrorCode::denied, "is Loam's own state, which jobs do not see");
    if (std::string place = below(own, folder); !place.empty()) hidden.push_back(std::move(place));
  }
  return hidden;
}

}  // namespace loam::sandbox
