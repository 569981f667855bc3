// The pools of huge pages that an administrator has set aside (hugetlbpage.rst).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace loam::devices {

struct HugePages {
  std::uint64_t page_bytes = 0;
  std::uint64_t total = 0;  // pages
  std::uint64_t free = 0;
  bool operator==(const HugePages&) const = default;
};
// Every size that this kernel has, the smallest first; pools may be empty.
std::vector<HugePages> read_huge_pages(const std::string& folder = "/sys/kernel/mm/hugepages");

}  // namespace loam::devices
