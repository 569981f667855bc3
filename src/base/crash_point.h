// Named places where the recovery tests kill this process (SIGKILL, as a power cut would):
// LOAM_CRASH_AT=name or name:n (the n-th passage). Costs one branch; absent without LOAM_CRASH_POINTS.
#pragma once

#ifdef LOAM_CRASH_POINTS
namespace loam {
void crash_point(const char* name);
}
#define LOAM_CRASH_POINT(name) ::loam::crash_point(name)
#else
#define LOAM_CRASH_POINT(name) static_cast<void>(0)
#endif
