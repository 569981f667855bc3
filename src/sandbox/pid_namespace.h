// A sandbox's pid namespace as others can name it, which is the fence where there is no cgroup.
//
// Its inode would not do: the kernel gives the number to another namespace as soon as this one is
// gone, and a node that comes back later would wait for, or kill, a stranger's job. The first
// process of a namespace outlives all others in it (the kernel ends them and waits for them before
// init is a zombie), so it stands for the whole: its pid, with its time of start against reuse.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace loam::sandbox {

struct PidNamespace {
  pid_t init = 0;             // as seen from the pid namespace of who made it; 0: none
  std::uint64_t started = 0;  // clock ticks since boot, field 22 of /proc/PID/stat

  bool known() const { return init > 0; }
  bool operator==(const PidNamespace&) const = default;
};

// Of the namespace whose first process this is, as long as that is there. 0 where /proc hides it.
PidNamespace pid_namespace_of(pid_t init);

// "4711 1234567": what a later process reads.
std::string to_text(const PidNamespace& pids);
PidNamespace pid_namespace_from(std::string_view text);  // unknown where it is no such text

// True while any process of it is there.
bool populated(const PidNamespace& pids);
// Kills every process of it and waits until none is left. busy at the limit.
Result<void> kill_pid_namespace(const PidNamespace& pids, std::int64_t limit_ms);

}  // namespace loam::sandbox
