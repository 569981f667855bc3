#include "node/scale.h"

#include <algorithm>

namespace loam::node {

ScaleMoves scale_moves(const std::vector<StandingReplica>& replicas, const ScaleLimits& limits,
                       std::int64_t wanted) {
  const std::int64_t target = std::clamp<std::int64_t>(wanted, limits.min, limits.max);
  ScaleMoves moves;
  std::int64_t live = std::count_if(replicas.begin(), replicas.end(), [](const auto& replica) {
    return replica.stand != ReplicaStand::parked;
  });
  const auto end_down_to = [&](std::int64_t least, ReplicaStand stand) {
    for (auto replica = replicas.rbegin(); replica != replicas.rend() && live > least; ++replica) {
      if (replica->stand != stand) continue;
      moves.end.push_back(replica->id);
      --live;
    }
  };
  // Of no use to anybody, also where more are wanted again meanwhile: others start for that.
  end_down_to(limits.min, ReplicaStand::spare);
  end_down_to(target, ReplicaStand::waits);
  end_down_to(target, ReplicaStand::starts);
  for (const StandingReplica& replica : replicas) {
    if (live >= target) break;
    if (replica.stand != ReplicaStand::parked) continue;
    moves.start.push_back(replica.id);
    ++live;
  }
  return moves;
}

}  // namespace loam::node
