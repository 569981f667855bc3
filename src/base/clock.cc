#include "base/clock.h"

#include <fmt/format.h>
#include <time.h>

#include "base/files.h"
#include "base/text.h"

namespace loam {

static std::int64_t read_clock(clockid_t id) {
  timespec now{};
  ::clock_gettime(id, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

std::int64_t wall_ms() { return read_clock(CLOCK_REALTIME) / 1'000'000; }
std::int64_t steady_ns() { return read_clock(CLOCK_MONOTONIC); }
std::int64_t boottime_ns() { return read_clock(CLOCK_BOOTTIME); }

std::string boot_id() {
  const auto text = read_file("/proc/sys/kernel/random/boot_id");
  return text ? std::string(trim(*text)) : "unknown";
}

std::string format_time(std::int64_t wall_ms) {
  const time_t seconds = wall_ms / 1000;
  tm parts{};
  ::gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900, parts.tm_mon + 1,
                     parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, wall_ms % 1000);
}

}  // namespace loam
