#include "sandbox/cgroup.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/clock.h"
#include "base/files.h"
#include "base/text.h"
#include "sandbox/control_file.h"
#include "sandbox/cpuset.h"

namespace loam::sandbox {
namespace {

constexpr std::int64_t kMillisecond = 1'000'000;
constexpr int kKillPauseMs = 2;      // between two looks at a dying group
constexpr int kRemoveTriesMax = 50;  // a v1 group stays busy for a moment after its last exit
constexpr std::uint64_t kCpuPeriodUs = 100'000;

void pause_ms(int milliseconds) {
  const timespec time{.tv_sec = milliseconds / 1000,
                      .tv_nsec = (milliseconds % 1000) * kMillisecond};
  ::nanosleep(&time, nullptr);
}

std::uint64_t number_in(std::string_view text) {
  std::uint64_t value = 0;
  text = trim(text);
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// The number after "key " in a file of "key value" lines; 0 where it is not.
std::uint64_t keyed_number(const std::string& path, std::string_view key) {
  const auto text = read_file(path);
  if (!text) return 0;
  for (const std::string& line : split(*text, '\n'))
    if (line.size() > key.size() && line.compare(0, key.size(), key) == 0 &&
        line[key.size()] == ' ')
      return number_in(std::string_view(line).substr(key.size() + 1));
  return 0;
}

std::uint64_t number_file(const std::string& path) {
  const auto text = read_file(path);
  return text ? number_in(*text) : 0;
}

const std::string* v1_folder(const CgroupPaths& paths, std::string_view controller) {
  for (const auto& [name, folder] : paths.v1)
    if (name == controller) return &folder;
  return nullptr;
}

Result<void> make_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) return fail_errno("mkdir " + path);
  return {};
}

std::string cpu_quota(std::uint32_t cpu_milli) {
  return std::to_string(std::uint64_t{cpu_milli} * kCpuPeriodUs / 1000);
}

Result<void> limit_v1_memory(const std::string& folder, std::uint64_t bytes) {
  const std::string value = std::to_string(bytes);
  LOAM_CHECK(write_control(folder + "/memory.limit_in_bytes", value));
  // Only where the kernel accounts swap; else memory alone is the limit.
  const std::string with_swap = folder + "/memory.memsw.limit_in_bytes";
  if (path_exists(with_swap)) LOAM_CHECK(write_control(with_swap, value));
  return {};
}

Result<void> limit_v1(const CgroupPaths& paths, const CgroupLimits& limits) {
  if (const auto* folder = v1_folder(paths, "memory"); folder != nullptr && limits.memory_bytes > 0)
    LOAM_CHECK(limit_v1_memory(*folder, limits.memory_bytes));
  if (const auto* folder = v1_folder(paths, "cpu"); folder != nullptr && limits.cpu_milli > 0) {
    LOAM_CHECK(write_control(*folder + "/cpu.cfs_period_us", std::to_string(kCpuPeriodUs)));
    LOAM_CHECK(write_control(*folder + "/cpu.cfs_quota_us", cpu_quota(limits.cpu_milli)));
  }
  if (const auto* folder = v1_folder(paths, "pids"); folder != nullptr && limits.processes_max > 0)
    LOAM_CHECK(write_control(*folder + "/pids.max", std::to_string(limits.processes_max)));
  return {};
}

Result<void> limit_v2(const std::string& folder, const CgroupLimits& limits) {
  if (limits.memory_bytes > 0) {
    LOAM_CHECK(write_control(folder + "/memory.max", std::to_string(limits.memory_bytes)));
    const std::string swap = folder + "/memory.swap.max";
    if (path_exists(swap)) LOAM_CHECK(write_control(swap, "0"));
  }
  if (limits.cpu_milli > 0)
    LOAM_CHECK(write_control(folder + "/cpu.max",
                             cpu_quota(limits.cpu_milli) + " " + std::to_string(kCpuPeriodUs)));
  if (limits.processes_max > 0)
    LOAM_CHECK(write_control(folder + "/pids.max", std::to_string(limits.processes_max)));
  return {};
}

std::vector<std::string> folders_of(const CgroupPaths& paths) {
  std::vector<std::string> folders;
  if (!paths.v2.empty()) folders.push_back(paths.v2);
  for (const auto& [controller, folder] : paths.v1) folders.push_back(folder);
  return folders;
}

CgroupPaths roots_of(const CgroupParents& parents) {
  CgroupPaths roots{parents.v2, parents.v1};
  roots.v1.insert(roots.v1.end(), parents.v1_on_demand.begin(), parents.v1_on_demand.end());
  return roots;
}

Result<std::vector<pid_t>> members(const std::string& folder) {
  auto text = read_file(folder + "/cgroup.procs");
  if (!text) {
    if (text.error().code == ErrorCode::not_found) return std::vector<pid_t>{};
    return tl::unexpected(text.error());
  }
  std::vector<pid_t> pids;
  for (const std::string& line : split(*text, '\n'))
    if (const auto pid = static_cast<pid_t>(number_in(line)); pid > 0) pids.push_back(pid);
  return pids;
}

// Without cgroup.kill: frozen, so that no fork outruns the killing, then killed and thawed. A group
// without a freezer is killed again and again until it is empty.
Result<void> kill_members(const CgroupPaths& paths) {
  const std::string freeze = paths.v2.empty() ? "" : paths.v2 + "/cgroup.freeze";
  const bool freezes = !freeze.empty() && path_exists(freeze);
  if (freezes) (void)write_control(freeze, "1");
  for (const std::string& folder : folders_of(paths))
    for (const pid_t pid : LOAM_TRY(members(folder))) ::kill(pid, SIGKILL);
  if (freezes) (void)write_control(freeze, "0");
  return {};
}

Result<void> remove_group(const std::string& folder) {
  for (int tries = 0; ::rmdir(folder.c_str()) != 0; ++tries) {
    if (errno == ENOENT) return {};
    if (errno != EBUSY || tries >= kRemoveTriesMax) return fail_errno("rmdir " + folder);
    pause_ms(kKillPauseMs);
  }
  return {};
}

}  // namespace

CgroupPaths cgroup_paths(const CgroupParents& parents, const std::string& name) {
  CgroupPaths paths;
  if (!parents.v2.empty()) paths.v2 = parents.v2 + "/" + name;
  for (const auto* list : {&parents.v1, &parents.v1_on_demand})
    for (const auto& [controller, folder] : *list)
      paths.v1.emplace_back(controller, folder + "/" + name);
  return paths;
}

Result<CgroupPaths> create_cgroup(const CgroupParents& parents, const std::string& name,
                                  const CgroupLimits& limits) {
  LOAM_ASSERT(!name.empty() && name.find('/') == std::string::npos && name[0] != '.');
  CgroupPaths paths = cgroup_paths(parents, name);
  std::erase_if(paths.v1, [&](const auto& entry) { return !is_wanted(entry.first, limits); });
  if (!paths.v2.empty()) enable_on_demand(parents, limits);
  const auto create = [&]() -> Result<void> {
    for (const std::string& folder : folders_of(paths)) LOAM_CHECK(make_folder(folder));
    if (!paths.v2.empty() && parents.v2_limits) LOAM_CHECK(limit_v2(paths.v2, limits));
    LOAM_CHECK(limit_v1(paths, limits));
    return limit_on_demand(paths, limits);
  };
  if (auto created = create(); !created) {
    (void)remove_cgroup(paths);
    return in_context("cgroup " + name, created.error());
  }
  return paths;
}

MemoryReport read_memory(const CgroupPaths& paths) {
  MemoryReport report;
  if (const auto* folder = v1_folder(paths, "memory")) {
    report.peak_bytes = number_file(*folder + "/memory.max_usage_in_bytes");
    report.oom_kills = keyed_number(*folder + "/memory.oom_control", "oom_kill");
  } else if (!paths.v2.empty()) {
    report.peak_bytes = number_file(paths.v2 + "/memory.peak");
    report.oom_kills = keyed_number(paths.v2 + "/memory.events", "oom_kill");
  }
  return report;
}

// v2 keeps cpu.stat in every group, with or without a controller (cgroup-v2.rst, "cpu.stat").
std::uint64_t read_cpu_ns(const CgroupPaths& paths) {
  if (paths.v2.empty()) return 0;
  return keyed_number(paths.v2 + "/cpu.stat", "usage_usec") * 1000;
}

Result<bool> cgroup_empty(const CgroupPaths& paths) {
  if (!paths.v2.empty() && path_exists(paths.v2))
    if (keyed_number(paths.v2 + "/cgroup.events", "populated") != 0) return false;
  for (const auto& [controller, folder] : paths.v1)
    if (!LOAM_TRY(members(folder)).empty()) return false;
  return true;
}

void lift_cpu_limit(const CgroupPaths& paths) {
  if (const auto* folder = v1_folder(paths, "cpu"))
    (void)write_control(*folder + "/cpu.cfs_quota_us", "-1");
  if (!paths.v2.empty() && path_exists(paths.v2 + "/cpu.max"))
    (void)write_control(paths.v2 + "/cpu.max", "max");
}

Result<void> kill_cgroup(const CgroupPaths& paths, std::int64_t limit_ms) {
  if (LOAM_TRY(cgroup_empty(paths))) return {};
  lift_cpu_limit(paths);
  const std::int64_t until = steady_ns() + limit_ms * kMillisecond;
  for (;;) {
    const bool killed =
        !paths.v2.empty() && write_control(paths.v2 + "/cgroup.kill", "1").has_value();
    // A process that joined only a v1 group (its start was cut short) is not in the v2 group.
    if (!killed || !paths.v1.empty()) LOAM_CHECK(kill_members(paths));
    if (LOAM_TRY(cgroup_empty(paths))) return {};
    if (steady_ns() >= until) break;
    pause_ms(kKillPauseMs);
  }
  return fail(ErrorCode::busy, "processes of the cgroup are still there after " +
                                   std::to_string(limit_ms) + " ms of SIGKILL");
}

Result<void> remove_cgroup(const CgroupPaths& paths) {
  for (const std::string& folder : folders_of(paths)) LOAM_CHECK(remove_group(folder));
  return {};
}

void remove_cgroup_parents(const CgroupParents& parents) {
  if (!list_cgroups(parents).empty()) return;
  leave_shared_cpus(parents);
  // What is dying can be moved nowhere: remove_group() waits for it.
  for (const auto& [controller, folder] : parents.v1_on_demand)
    if (controller == "cpuset") (void)remove_group(folder + "/" + kSharedCpus);
  CgroupPaths roots = roots_of(parents);
  // A node that had to make room for limits lives below its own parent, which then cannot go yet.
  if (!roots.v2.empty() && path_exists(roots.v2 + "/node")) roots.v2.clear();
  (void)remove_cgroup(roots);
}

std::vector<std::string> list_cgroups(const CgroupParents& parents) {
  std::vector<std::string> names;
  for (const std::string& folder : folders_of(roots_of(parents))) {
    const auto entries = list_folder(folder);
    if (!entries) continue;
    for (const std::string& name : *entries) {
      struct stat status {};
      const std::string path = folder + "/" + name;
      if (::lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode) && name != "node" &&
          name != kSharedCpus)
        names.push_back(name);
    }
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

}  // namespace loam::sandbox
