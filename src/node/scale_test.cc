#include "node/scale.h"

#include <gtest/gtest.h>

namespace loam::node {
namespace {

using enum ReplicaStand;
using Jobs = std::vector<JobId>;

// Replicas 1, 2, … as they stand, of a service with min 1 and max 4 unless it is said.
ScaleMoves moves(const std::vector<ReplicaStand>& stands, std::int64_t wanted,
                 ScaleLimits limits = {1, 4}) {
  std::vector<StandingReplica> replicas;
  for (const ReplicaStand stand : stands)
    replicas.push_back({static_cast<JobId>(replicas.size() + 1), stand});
  return scale_moves(replicas, limits, wanted);
}

TEST(Scale, StartsAsManyAsAreWanted) {
  const auto made = moves({serves, parked, parked, parked}, 3);
  EXPECT_EQ(made.start, (Jobs{2, 3}));
  EXPECT_EQ(made.end, Jobs{});
  EXPECT_EQ(moves({serves, waits, parked, parked}, 2).start, Jobs{}) << "one is on its way";
}

TEST(Scale, WhatTheGatewaySaysCountsWithinTheLimits) {
  EXPECT_EQ(moves({serves, parked, parked, parked}, 1'000'000'000'000).start, (Jobs{2, 3, 4}));
  EXPECT_EQ(moves({serves, parked, parked}, 3, {1, 2}).start, Jobs{2});
  EXPECT_EQ(moves({waits, starts, spare, parked}, -7, {2, 4}).end, (Jobs{3}));
  EXPECT_EQ(moves({parked, parked}, 0, {2, 2}).start, (Jobs{1, 2}));
}

TEST(Scale, NeverEndsWhatServes) {
  EXPECT_EQ(moves({serves, serves, serves}, 1).end, Jobs{});
  EXPECT_EQ(moves({serves, spare, serves}, 1).end, Jobs{2});
}

TEST(Scale, WithdrawsWhatWaitsBeforeWhatStartsAndTheNewestFirst) {
  EXPECT_EQ(moves({serves, waits, starts, waits}, 2).end, (Jobs{4, 2}));
  EXPECT_EQ(moves({serves, waits, starts, waits}, 1).end, (Jobs{4, 2, 3}));
}

TEST(Scale, TheLeastNumberStays) {
  EXPECT_EQ(moves({spare}, 1).end, Jobs{}) << "the other has been cancelled";
  EXPECT_EQ(moves({spare, spare, spare}, 1, {2, 4}).end, Jobs{3});
}

TEST(Scale, OneThatIsSpareGoesAlsoWhereMoreAreWantedAgain) {
  const auto made = moves({serves, spare, parked, parked}, 3);
  EXPECT_EQ(made.end, Jobs{2});
  EXPECT_EQ(made.start, (Jobs{3, 4}));
}

}  // namespace
}  // namespace loam::node
