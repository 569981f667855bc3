// Cgroups of attempts: made by the node, joined by the sandboxed child, emptied and removed by
// either. Hybrid hosts: v2 tracks, kills and fences; v1 limits (docs in ARCHITECTURE.md,
// sandbox.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/json.h"
#include "base/result.h"

namespace loam::sandbox {

// Where this node may make cgroups. Found once at the node's first start, then recorded in its
// database.
struct CgroupParents {
  std::string v2;          // ".../loam", "" where none is writable
  bool v2_limits = false;  // v2 has cpu, memory and pids controllers for us
  // memory, cpu, pids; devices too where there is no v2 → ".../loam"
  std::vector<std::pair<std::string, std::string>> v1;
  // cpuset and hugetlb hierarchies of their own: only attempts that ask have a group there.
  std::vector<std::pair<std::string, std::string>> v1_on_demand;
};
Json to_json(const CgroupParents& parents);
Result<CgroupParents> cgroup_parents_from(const Json& document);
// Finds writable hierarchies from /proc/self/{cgroup,mountinfo}, makes "NAME" in each ("loam"; a
// rootless or test node passes another name so that two nodes never share one). None writable:
// empty, not an error.
CgroupParents find_cgroup_parents(const std::string& name);

// At a node's end: the parents go where no group is left in them; the next start makes them again.
void remove_cgroup_parents(const CgroupParents& parents);

// Which CPUs, and which NUMA nodes' memory.
struct CpuSet {
  std::vector<std::uint32_t> cpus;  // empty: no restriction
  std::vector<std::uint32_t> memory_nodes;
  bool pinned = false;  // nobody else of this node uses them
};

struct CgroupLimits {
  std::uint64_t memory_bytes = 0;  // 0: none
  std::uint32_t cpu_milli = 0;
  std::uint32_t processes_max = 0;
  CpuSet cpu_set;                     // of a pinned attempt, or what the pinned ones leave
  std::uint64_t huge_page_bytes = 0;  // the size of one page; 0: hugetlb is not limited
  std::uint64_t huge_bytes = 0;       // of such pages together
};

// One attempt's group: a folder of the same name under each parent.
struct CgroupPaths {
  std::string v2;
  std::vector<std::pair<std::string, std::string>> v1;
  bool any() const { return !v2.empty() || !v1.empty(); }
};
Result<CgroupPaths> create_cgroup(const CgroupParents& parents, const std::string& name,
                                  const CgroupLimits& limits);
CgroupPaths cgroup_paths(const CgroupParents& parents, const std::string& name);

struct MemoryReport {
  std::uint64_t peak_bytes = 0;
  std::uint64_t oom_kills = 0;
};
MemoryReport read_memory(const CgroupPaths& paths);
std::uint64_t read_cpu_ns(const CgroupPaths& paths);

// Before a kill: dying takes processor time, and hundreds of processes under a small quota would take
// minutes of it.
void lift_cpu_limit(const CgroupPaths& paths);
// cgroup.kill where it exists, else freeze-kill-thaw until empty, without a limit of processor time. busy:
// still populated at the limit.
Result<void> kill_cgroup(const CgroupPaths& paths, std::int64_t limit_ms);
Result<bool> cgroup_empty(const CgroupPaths& paths);
Result<void> remove_cgroup(const CgroupPaths& paths);
// Names of the groups below the parents: what a restarted node compares with its open attempts.
std::vector<std::string> list_cgroups(const CgroupParents& parents);

}  // namespace loam::sandbox
