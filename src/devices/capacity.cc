#include <sched.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/files.h"
#include "base/text.h"
#include "devices/cgroup_limits.h"
#include "devices/host.h"

namespace loam::devices {
namespace {

constexpr std::uint64_t kNoLimit = ~std::uint64_t{0};
constexpr std::size_t kCgroupFileBytesMax = 4096;

// The first number of a one-line file; "max", "-1" and a missing file are no limit.
std::uint64_t first_number(const std::string& path) {
  const auto text = read_file(path, kCgroupFileBytesMax);
  if (!text || text->empty() || text->front() < '0' || text->front() > '9') return kNoLimit;
  return std::strtoull(text->c_str(), nullptr, 10);
}

std::uint64_t quota_of(const std::string& folder) {
  // v2: "QUOTA PERIOD" in cpu.max
  if (const auto text = read_file(folder + "/cpu.max", kCgroupFileBytesMax)) {
    const auto words = split(trim(*text), ' ');
    if (words.size() != 2 || words[0] == "max") return kNoLimit;
    const std::uint64_t period = std::strtoull(words[1].c_str(), nullptr, 10);
    return period == 0 ? kNoLimit : std::strtoull(words[0].c_str(), nullptr, 10) * 1000 / period;
  }
  const std::uint64_t quota = first_number(folder + "/cpu.cfs_quota_us");
  const std::uint64_t period = first_number(folder + "/cpu.cfs_period_us");
  if (quota == kNoLimit || period == kNoLimit || period == 0) return kNoLimit;
  return quota * 1000 / period;
}

struct Mount {
  std::string root;  // which part of the hierarchy is mounted
  std::string point;
};

// Where the hierarchy with `controller` ("" : v2) is mounted (proc_pid_mountinfo(5)).
Mount mount_of(std::string_view mountinfo, const std::string& controller) {
  for (const std::string& line : split(mountinfo, '\n')) {
    const std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    const auto left = split(std::string_view(line).substr(0, dash), ' ');
    const auto right = split(std::string_view(line).substr(dash + 3), ' ');
    if (left.size() < 6 || right.size() < 3) continue;
    if (controller.empty() ? right[0] != "cgroup2" : right[0] != "cgroup") continue;
    const auto options = split(right[2], ',');
    if (controller.empty() ||
        std::find(options.begin(), options.end(), controller) != options.end())
      return {left[3], left[4]};
  }
  return {};
}

// This process's place in that hierarchy (cgroups(7)), "" where there is none.
std::string place_of(std::string_view self, const std::string& controller) {
  for (const std::string& line : split(self, '\n')) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first == std::string::npos ? first : first + 1);
    if (second == std::string::npos) continue;
    const auto names = split(std::string_view(line).substr(first + 1, second - first - 1), ',');
    if (std::find(names.begin(), names.end(), controller) != names.end())
      return line.substr(second + 1);
  }
  return "";
}

// The smallest limit from this process's own group up to the mount's top.
template <class Read>
std::uint64_t smallest(const CgroupView& view, const std::string& controller, Read read) {
  const Mount mount = mount_of(view.mountinfo, controller);
  std::string place = place_of(view.self, controller);
  if (mount.point.empty() || place.empty()) return kNoLimit;
  if (mount.root != "/" && starts_with_path(place, mount.root))
    place = place.substr(mount.root.size());
  if (place.empty() || place == "/") place = "";
  std::uint64_t limit = kNoLimit;
  for (;;) {
    limit = std::min(limit, read(view.prefix + mount.point + place));
    const std::size_t slash = place.rfind('/');
    if (slash == std::string::npos) return limit;
    place.resize(slash);
  }
}

}  // namespace

std::uint64_t memory_limit(const CgroupView& view) {
  const std::uint64_t v2 = smallest(
      view, "", [](const std::string& folder) { return first_number(folder + "/memory.max"); });
  const std::uint64_t v1 = smallest(view, "memory", [](const std::string& folder) {
    return first_number(folder + "/memory.limit_in_bytes");
  });
  return std::min(v1, v2);
}

std::uint64_t cpu_quota_milli(const CgroupView& view) {
  return std::min(smallest(view, "", quota_of), smallest(view, "cpu", quota_of));
}

Capacity read_capacity() {
  Capacity capacity;
  cpu_set_t usable;
  CPU_ZERO(&usable);
  if (::sched_getaffinity(0, sizeof usable, &usable) == 0)
    capacity.cpus = static_cast<std::uint32_t>(std::max(1, CPU_COUNT(&usable)));
  struct sysinfo machine {};
  if (::sysinfo(&machine) == 0)
    capacity.memory_bytes = static_cast<std::uint64_t>(machine.totalram) * machine.mem_unit;

  CgroupView view;
  if (auto text = read_file("/proc/self/mountinfo")) view.mountinfo = std::move(*text);
  if (auto text = read_file("/proc/self/cgroup")) view.self = std::move(*text);
  capacity.memory_bytes = std::min(capacity.memory_bytes, memory_limit(view));
  const std::uint64_t quota = cpu_quota_milli(view);
  if (quota != kNoLimit)
    capacity.cpus = std::min(capacity.cpus,
                             static_cast<std::uint32_t>(std::max<std::uint64_t>(1, quota / 1000)));
  return capacity;
}

}  // namespace loam::devices
