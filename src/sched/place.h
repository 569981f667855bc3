// Which cores and devices a granted claim gets: close together, and so that what is left stays
// useful for the next.
#pragma once

#include <utility>
#include <vector>

#include "sched/state.h"

namespace loam::sched {

struct Placed {
  Placement placement;
  std::vector<std::pair<std::uint32_t, std::int64_t>> parts;  // device index → parts
};

// `taken` says how much of each column; it is free.
Placed place(const State& state, const Claim& claim, const Need& need, const Vector& taken);

}  // namespace loam::sched
