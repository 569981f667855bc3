// Amounts as people write them.
#pragma once

#include <cstdint>
#include <string>

namespace loam::sched {

std::string cpus_text(std::int64_t milli);   // "1.5"
std::string cpus_named(std::int64_t milli);  // "1.5 CPUs"
std::string devices_named(std::int64_t count, const std::string& kind,
                          const std::string& model = "");  // "2 GPUs", "1 licence", "4 H100 GPUs"

}  // namespace loam::sched
