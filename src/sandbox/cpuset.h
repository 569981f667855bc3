// Controllers that only some attempts need: cpuset (pinned CPUs and their memory) and hugetlb (huge
// pages). v1: groups in hierarchies of their own, made for those that ask. v2: handed down when the
// first one asks.
//
//   pinned attempt:  a group of its own with its CPUs            set_shared_cpus: everybody else
//   everybody else:  v1: one group, kSharedCpus, in which the node lives · v2: each attempt's group
//
// Source: cgroup-v1/cpusets.rst, cgroup-v2.rst ("Cpuset", "HugeTLB").
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "sandbox/cgroup.h"

namespace loam::sandbox {

inline constexpr const char* kSharedCpus = "shared";

// Whether an attempt with these limits has a group in a v1 hierarchy of this controller.
bool is_wanted(const std::string& controller, const CgroupLimits& limits);
// Where v1 has no such hierarchy: v2's controller, where the kernel has it to give. What could not
// be had shows by its missing files.
void enable_on_demand(const CgroupParents& parents, const CgroupLimits& limits);
Result<void> limit_on_demand(const CgroupPaths& paths, const CgroupLimits& limits);
// "hugetlb.2MB.": how the control files of a page size begin.
std::string huge_page_prefix(std::uint64_t page_bytes);

// The node joins the shared group at its start, and with it all that it starts. Nothing without v1
// cpusets.
Result<void> join_shared_cpus(const CgroupParents& parents);
// With all that is still in it: a helper that hangs, a shim about to end.
void leave_shared_cpus(const CgroupParents& parents);
// From now on everybody but the `pinned` attempts (names of groups) uses these CPUs only; empty:
// all. Without any cpuset controller the threads themselves are moved, which binds them only until
// they choose otherwise.
Result<void> set_shared_cpus(const CgroupParents& parents, const std::vector<std::uint32_t>& cpus,
                             const std::vector<std::string>& pinned);
// The same for this thread and its children, where the group cannot: in a sandbox's first process.
Result<void> bind_this_thread(const CpuSet& cpu_set);

}  // namespace loam::sandbox
