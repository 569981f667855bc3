#include "base/time_of_day.h"

#include <time.h>

namespace loam {

std::string format_time_of_day(std::int64_t wall_ms, std::int64_t now_ms) {
  constexpr std::int64_t kDayMs = 24 * 3600 * 1000;
  const auto seconds = static_cast<time_t>(wall_ms / 1000);
  tm local{};
  ::localtime_r(&seconds, &local);
  char text[32];
  const char* format = wall_ms - now_ms < kDayMs ? "%H:%M" : "%Y-%m-%d %H:%M";
  return std::string(text, ::strftime(text, sizeof text, format, &local));
}

}  // namespace loam
