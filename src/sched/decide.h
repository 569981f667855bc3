// One decision: who starts now, who gets a reservation, who is preempted.
#pragma once

#include "sched/sched.h"

namespace loam::sched {

// Something may start that could not before: everybody is looked at again.
void decide(State& state, Time now, Actions& actions);
// The decision before this one was cut short: the rest is looked at.
void go_on(State& state, Time now, Actions& actions);
// A new claim opens nothing for others: only what it may do itself is looked at.
void decide_on(State& state, Slot newcomer, Time now, Actions& actions);

// For sane(): whether the first in order waits although it fits.
bool first_could_start(const State& state, Time now);

}  // namespace loam::sched
