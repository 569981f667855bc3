// What the cgroups above this process leave it, read through a view that tests can make up.
#pragma once

#include <cstdint>
#include <string>

namespace loam::devices {

struct CgroupView {
  std::string mountinfo;  // content of /proc/self/mountinfo
  std::string self;       // content of /proc/self/cgroup
  std::string prefix;     // before every mount point; "" but in tests
};

// The smallest limit up to the hierarchy's top, v1 and v2; all ones where there is none.
std::uint64_t memory_limit(const CgroupView& view);
std::uint64_t cpu_quota_milli(const CgroupView& view);  // 1000 = one CPU

}  // namespace loam::devices
