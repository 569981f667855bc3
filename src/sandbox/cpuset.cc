#include "sandbox/cpuset.h"

#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/files.h"
#include "base/text.h"
#include "sandbox/control_file.h"

namespace loam::sandbox {
namespace {

constexpr std::size_t kMemoryNodesMax = 1024;  // MAX_NUMNODES of common kernels

const std::string* folder_of(const std::vector<std::pair<std::string, std::string>>& list,
                             std::string_view controller) {
  for (const auto& [name, folder] : list)
    if (name == controller) return &folder;
  return nullptr;
}

std::string line_of(const std::string& path) {
  const auto text = read_file(path);
  return text ? std::string(trim(*text)) : "";
}

std::string parent_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

// A new v1 cpuset has no CPU and no memory, and nobody can join it: it gets all that its parent
// has.
Result<void> fill_cpuset(const std::string& folder) {
  for (const char* file : {"/cpuset.cpus", "/cpuset.mems"})
    if (line_of(folder + file).empty())
      LOAM_CHECK(write_control(folder + file, line_of(parent_of(folder) + file)));
  return {};
}

void hand_down(const CgroupParents& parents, const std::string& controller) {
  for (const std::string& folder : {parent_of(parents.v2), parents.v2})
    (void)write_control(folder + "/cgroup.subtree_control", "+" + controller);
}

cpu_set_t set_of(const std::vector<std::uint32_t>& cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const std::uint32_t cpu : cpus)
    if (cpu < CPU_SETSIZE) CPU_SET(cpu, &set);
  if (cpus.empty())
    for (std::uint32_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) CPU_SET(cpu, &set);
  return set;
}

Result<void> move_threads(const std::string& folder, const std::vector<std::uint32_t>& cpus) {
  const cpu_set_t set = set_of(cpus);
  for (const char* file : {"/cgroup.threads", "/tasks"}) {
    const auto text = read_file(folder + file);
    if (!text) continue;
    for (const std::uint32_t thread : parse_numbers(*text))
      if (::sched_setaffinity(static_cast<pid_t>(thread), sizeof set, &set) != 0 && errno != ESRCH)
        return fail_errno("move the threads of " + folder);
  }
  return {};
}

}  // namespace

bool is_wanted(const std::string& controller, const CgroupLimits& limits) {
  if (controller == "cpuset") return limits.cpu_set.pinned;
  if (controller == "hugetlb") return limits.huge_page_bytes != 0;
  return true;
}

void enable_on_demand(const CgroupParents& parents, const CgroupLimits& limits) {
  if (!limits.cpu_set.cpus.empty() && folder_of(parents.v1_on_demand, "cpuset") == nullptr)
    hand_down(parents, "cpuset");
  if (limits.huge_page_bytes != 0 && folder_of(parents.v1_on_demand, "hugetlb") == nullptr)
    hand_down(parents, "hugetlb");
}

std::string huge_page_prefix(std::uint64_t page_bytes) {
  constexpr std::uint64_t kMegabyte = 1ull << 20, kGigabyte = 1ull << 30;
  if (page_bytes >= kGigabyte) return "hugetlb." + std::to_string(page_bytes / kGigabyte) + "GB.";
  if (page_bytes >= kMegabyte) return "hugetlb." + std::to_string(page_bytes / kMegabyte) + "MB.";
  return "hugetlb." + std::to_string(page_bytes >> 10) + "KB.";
}

Result<void> limit_on_demand(const CgroupPaths& paths, const CgroupLimits& limits) {
  const std::string cpus = format_numbers(limits.cpu_set.cpus);
  const std::string nodes = format_numbers(limits.cpu_set.memory_nodes);
  std::string cpuset = paths.v2;
  if (const std::string* folder = folder_of(paths.v1, "cpuset")) {
    cpuset = *folder;
    LOAM_CHECK(fill_cpuset(parent_of(cpuset)));
    LOAM_CHECK(fill_cpuset(cpuset));
  }
  if (!cpus.empty() && !cpuset.empty() && path_exists(cpuset + "/cpuset.cpus")) {
    LOAM_CHECK(write_control(cpuset + "/cpuset.cpus", cpus));
    if (!nodes.empty()) LOAM_CHECK(write_control(cpuset + "/cpuset.mems", nodes));
  }
  if (limits.huge_page_bytes == 0) return {};
  const std::string prefix = huge_page_prefix(limits.huge_page_bytes);
  const std::string bytes = std::to_string(limits.huge_bytes);
  if (const std::string* folder = folder_of(paths.v1, "hugetlb"))
    return write_control(*folder + "/" + prefix + "limit_in_bytes", bytes);
  const std::string file = paths.v2 + "/" + prefix + "max";
  return !paths.v2.empty() && path_exists(file) ? write_control(file, bytes) : Result<void>{};
}

Result<void> join_shared_cpus(const CgroupParents& parents) {
  const std::string* folder = folder_of(parents.v1_on_demand, "cpuset");
  if (folder == nullptr) return {};
  LOAM_CHECK(fill_cpuset(*folder));
  const std::string shared = *folder + "/" + kSharedCpus;
  if (::mkdir(shared.c_str(), 0755) != 0 && errno != EEXIST) return fail_errno("mkdir " + shared);
  LOAM_CHECK(fill_cpuset(shared));
  return write_control(shared + "/cgroup.procs", "0");
}

void leave_shared_cpus(const CgroupParents& parents) {
  const std::string* folder = folder_of(parents.v1_on_demand, "cpuset");
  if (folder == nullptr) return;
  const auto members = read_file(*folder + "/" + kSharedCpus + "/cgroup.procs");
  if (!members) return;
  for (const std::string& pid : split(*members, '\n'))
    if (!pid.empty()) (void)write_control(parent_of(*folder) + "/cgroup.procs", pid);
}

Result<void> set_shared_cpus(const CgroupParents& parents, const std::vector<std::uint32_t>& cpus,
                             const std::vector<std::string>& pinned) {
  if (const std::string* folder = folder_of(parents.v1_on_demand, "cpuset")) {
    const std::string all = line_of(*folder + "/cpuset.cpus");
    return write_control(*folder + "/" + kSharedCpus + "/cpuset.cpus",
                         cpus.empty() ? all : format_numbers(cpus));
  }
  for (const std::string& name : list_cgroups(parents)) {
    if (std::find(pinned.begin(), pinned.end(), name) != pinned.end()) continue;
    const CgroupPaths paths = cgroup_paths(parents, name);
    const std::string folder = !paths.v2.empty()  ? paths.v2
                               : paths.v1.empty() ? std::string()
                                                  : paths.v1.front().second;
    if (folder.empty()) continue;
    // An empty list is written as a newline: a write of nothing is none.
    const auto narrowed =
        path_exists(folder + "/cpuset.cpus")
            ? write_control(folder + "/cpuset.cpus", cpus.empty() ? "\n" : format_numbers(cpus))
            : move_threads(folder, cpus);
    if (!narrowed && path_exists(folder)) return narrowed;  // gone meanwhile: nobody to narrow
  }
  return {};
}

Result<void> bind_this_thread(const CpuSet& cpu_set) {
  const cpu_set_t set = set_of(cpu_set.cpus);
  if (!cpu_set.cpus.empty() && ::sched_setaffinity(0, sizeof set, &set) != 0)
    return fail_errno("use CPUs " + format_numbers(cpu_set.cpus));
  if (cpu_set.memory_nodes.empty()) return {};
  constexpr std::size_t kBits = 8 * sizeof(unsigned long);
  unsigned long mask[kMemoryNodesMax / kBits] = {};
  for (const std::uint32_t node : cpu_set.memory_nodes)
    if (node < kMemoryNodesMax) mask[node / kBits] |= 1ul << node % kBits;
  // One bit more than there are: set_mempolicy(2) counts so. ENOSYS: a kernel without NUMA.
  if (::syscall(SYS_set_mempolicy, MPOL_BIND, mask, kMemoryNodesMax + 1) != 0 && errno != ENOSYS)
    return fail_errno("use the memory of nodes " + format_numbers(cpu_set.memory_nodes));
  return {};
}

}  // namespace loam::sandbox
