// What a node knows of lanes beyond the rows: which tasks wait for one, what each has been handed.
// Rebuilt at a start from the rows and from what the lanes say.
#pragma once

#include <cstddef>
#include <map>
#include <set>

#include "node/supervisor.h"

namespace loam::node {

struct Lanes {
  struct Lane {
    JobId job = 0, sweep = 0;
    AttemptId attempt = 0;
    std::set<AttemptId> handed;
    std::size_t window = 1;  // how many it may hold: more, the shorter its tasks are
    bool closed = false;     // it is told to end
  };
  std::map<JobId, Lane> open;                // by job, those whose sandbox runs
  std::map<JobId, std::set<JobId>> waiting;  // by sweep, in the order of their numbers
  std::map<JobId, bool> shares;              // by sweep, as its file says
  std::set<JobId> due;                       // sweeps to look at in this turn
};

}  // namespace loam::node
