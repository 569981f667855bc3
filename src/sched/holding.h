// Tasks start and end: what they take and give back, in every book that is kept of it.
#pragma once

#include "sched/state.h"

namespace loam::sched {

struct Start {
  TaskId task = 0;
  Vector taken;
  Placement placement;
  std::vector<std::pair<std::uint32_t, std::int64_t>> parts;  // device index → parts
  Time started = 0;
  bool adopted = false;  // it runs already, whether there is room or not
};
void start_task(State& state, Slot slot, Start start, Time now);
// `again`: the task waits once more; else it is done.
void end_task(State& state, Slot slot, TaskId task, bool again, Time now);

Slot add_entry(State& state, const Claim& claim);
void remove_entry(State& state, Slot slot);
// In its line where it may start a task, out of it where it may not.
void settle_in_line(State& state, Slot slot);
void leave_line(State& state, Slot slot);

// What a placement takes of the machine as it is: unknown devices are left out.
std::vector<std::pair<std::uint32_t, std::int64_t>> parts_of(const State& state,
                                                             const Placement& placement);
Vector taken_by(const State& state, const Need& need,
                const std::vector<std::pair<std::uint32_t, std::int64_t>>& parts);
void update_returns(const State& state, Holding& holding);
void mark_pinned(State& state, const Placement& placement, bool pinned);
// Opens the books of users and accounts that are new.
void open_books(State& state);
// Holdings' ends and victims follow claims' limits and priorities: out before a change, in after.
void unlist(State& state, std::uint32_t holding);
void list(State& state, std::uint32_t holding);

}  // namespace loam::sched
