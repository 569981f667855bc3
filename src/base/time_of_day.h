// A moment near now, as a person's clock shows it.
#pragma once

#include <cstdint>
#include <string>

namespace loam {

// "14:20" in local time, with the date where it is a day or more after `now_ms`.
std::string format_time_of_day(std::int64_t wall_ms, std::int64_t now_ms);

}  // namespace loam
