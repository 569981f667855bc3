#include "devices/huge_pages.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "base/files.h"
#include "base/text.h"

namespace loam::devices {
namespace {

std::uint64_t number_in(std::string_view text) {
  std::uint64_t value = 0;
  text = trim(text);
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

}  // namespace

std::vector<HugePages> read_huge_pages(const std::string& folder) {
  constexpr std::string_view kPrefix = "hugepages-";  // hugepages-2048kB
  std::vector<HugePages> pools;
  const auto names = list_folder(folder);
  if (!names) return pools;
  for (const std::string& name : *names) {
    if (!name.starts_with(kPrefix) || !name.ends_with("kB")) continue;
    HugePages pool;
    pool.page_bytes = number_in(std::string_view(name).substr(kPrefix.size())) * 1024;
    const std::string place = folder + "/" + name;
    pool.total = number_in(read_file(place + "/nr_hugepages").value_or(""));
    pool.free = number_in(read_file(place + "/free_hugepages").value_or(""));
    if (pool.page_bytes != 0) pools.push_back(pool);
  }
  std::sort(pools.begin(), pools.end(),
            [](const HugePages& a, const HugePages& b) { return a.page_bytes < b.page_bytes; });
  return pools;
}

}  // namespace loam::devices
