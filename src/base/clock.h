// Time of day for records and people; steady time for waiting. Pure code (sched/) is handed a Time.
#pragma once

#include <cstdint>
#include <string>

namespace loam {

std::int64_t wall_ms();       // since 1970-01-01 UTC
std::int64_t steady_ns();     // CLOCK_MONOTONIC
std::int64_t boottime_ns();   // CLOCK_BOOTTIME: goes on through suspend
std::string boot_id();        // /proc/sys/kernel/random/boot_id
std::string format_time(std::int64_t wall_ms);  // "2026-01-31T12:00:00.250Z"

}  // namespace loam
