// Whom to preempt so that a claim of higher priority can start: never more than needed, and those
// who lose least.
#pragma once

#include <optional>
#include <vector>

#include "sched/state.h"

namespace loam::sched {

struct Victims {
  std::vector<std::uint32_t>
      victims;    // indexes into State::holdings; none: preempting does not help
  Time soon = 0;  // when they will have ended
};

// `start`: when the claim starts anyway. Of those who may be preempted: lowest priority first, then
// newest start; one where one suffices, and nobody whose end would change nothing.
Victims choose_victims(const State& state, const Profile& profile, const Entry& entry,
                       std::optional<Time> start, Time now);

}  // namespace loam::sched
