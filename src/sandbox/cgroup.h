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
  std::vector<std::pair<std::string, std::string>> v1;  // memory, cpu, pids → ".../loam"
};
Json to_json(const CgroupParents& parents);
Result<CgroupParents> cgroup_parents_from(const Json& document);
// Finds writable hierarchies from /proc/self/{cgroup,mountinfo}, makes "NAME" in each ("loam"; a
// rootless or test node passes another name so that two nodes never share one). None writable:
// empty, not an error.
CgroupParents find_cgroup_parents(const std::string& name);

// At a node's end: the parents go where no group is left in them; the next start makes them again.
void remove_cgroup_parents(const CgroupParents& parents);

struct CgroupLimits {
  std::uint64_t memory_bytes = 0;  // 0: none
  std::uint32_t cpu_milli = 0;
  std::uint32_t processes_max = 0;
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

// cgroup.kill where it exists, else freeze-kill-thaw until empty. busy: still populated at the
// limit.
Result<void> kill_cgroup(const CgroupPaths& paths, std::int64_t limit_ms);
Result<bool> cgroup_empty(const CgroupPaths& paths);
Result<void> remove_cgroup(const CgroupPaths& paths);
// Names of the groups below the parents: what a restarted node compares with its open attempts.
std::vector<std::string> list_cgroups(const CgroupParents& parents);

// The fence without a cgroup: true while any process has this pid-namespace inode.
bool pid_namespace_populated(std::uint64_t inode);
// Kills every process with this pid-namespace inode until none is left. busy at the limit.
Result<void> kill_pid_namespace(std::uint64_t inode, std::int64_t limit_ms);

}  // namespace loam::sandbox
