// Which replicas of a service start and which end, so that there are as many as its load asks for.
// Pure.
#pragma once

#include <vector>

#include "node/supervisor.h"

namespace loam::node {

// spare: it answers, but its gateway gives it nothing more to do. One that is ending already is
// not among them.
enum class ReplicaStand { parked, waits, starts, serves, spare };

struct StandingReplica {
  JobId id = 0;
  ReplicaStand stand = ReplicaStand::parked;
};

struct ScaleMoves {
  std::vector<JobId> start;
  std::vector<JobId> end;
};

struct ScaleLimits {
  int min = 1;
  int max = 1;
};

// `wanted` is foreign: it counts within the limits. What serves is never ended, and nothing below
// the least number: only what is spare, what still waits or starts, the newest first.
ScaleMoves scale_moves(const std::vector<StandingReplica>& replicas, const ScaleLimits& limits,
                       std::int64_t wanted);

}  // namespace loam::node
