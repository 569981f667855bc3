#include "gateway/scaling.h"

#include <gtest/gtest.h>

namespace loam::gateway {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kGrow = std::chrono::nanoseconds(kGrowAfter).count();
constexpr std::int64_t kShrink = std::chrono::nanoseconds(kShrinkAfter).count();
constexpr std::int64_t kStart = 1000 * kSecond;  // a steady clock's

// As many serve as are wanted.
Scaling scaling_of(const api::ScalePlan& plan) {
  Scaling scaling(plan, kStart);
  (void)scaling.look({.serving = plan.wanted}, kStart);
  return scaling;
}

Scaling one_to(std::uint32_t max) { return scaling_of({.min = 1, .max = max, .wanted = 1}); }

TEST(Scaling, OneMoreOnceARequestHasWaitedWhileAllAreBusy) {
  Scaling scaling = one_to(4);
  const std::int64_t came = kStart + 100 * kSecond;
  const Scaling::Load waits{.serving = 1, .busy = 1, .waiting_since_ns = came};
  EXPECT_EQ(scaling.look({.serving = 1, .busy = 1}, came).wanted, 1u);
  const auto first = scaling.look(waits, came);
  EXPECT_EQ(first.wanted, 1u);
  EXPECT_EQ(first.look_again_ns, came + kGrow) << "a timer, no ticking";
  EXPECT_EQ(scaling.look(waits, came + kGrow - 1).wanted, 1u);
  EXPECT_EQ(scaling.look(waits, came + kGrow).wanted, 2u);
}

TEST(Scaling, WaitsNeitherForAnIdleReplicaNorForOneThatDied) {
  Scaling scaling = one_to(4);
  const std::int64_t late = kStart + 100 * kSecond;
  EXPECT_EQ(scaling.look({.serving = 2, .busy = 1, .waiting_since_ns = kStart}, late).wanted, 1u);
  EXPECT_EQ(scaling.look({.serving = 0, .busy = 0, .waiting_since_ns = kStart}, late).wanted, 1u)
      << "nobody is there: more would not come sooner than the first";
}

TEST(Scaling, TheNextOnlyAfterTheLastHasHadTimeToHelp) {
  Scaling scaling = one_to(4);
  Scaling::Load load{.serving = 1, .busy = 1, .waiting_since_ns = kStart};
  std::int64_t now = kStart + 10 * kSecond;
  EXPECT_EQ(scaling.look(load, now).wanted, 2u);
  EXPECT_EQ(scaling.look(load, now + 100 * kSecond).wanted, 2u) << "the second is not there yet";
  now += 200 * kSecond;
  load.serving = load.busy = 2;
  EXPECT_EQ(scaling.look(load, now).wanted, 2u) << "it has only just come";
  EXPECT_EQ(scaling.look(load, now + kGrow).wanted, 3u);
}

TEST(Scaling, NeverAboveMaxNorBelowMin) {
  Scaling scaling = scaling_of({.min = 2, .max = 3, .wanted = 2});
  Scaling::Load load{.serving = 2, .busy = 2, .waiting_since_ns = kStart};
  EXPECT_EQ(scaling.look(load, kStart + 10 * kSecond).wanted, 3u);
  load.serving = load.busy = 3;
  EXPECT_EQ(scaling.look(load, kStart + 20 * kSecond).wanted, 3u);
  const auto full = scaling.look(load, kStart + 30 * kSecond);
  EXPECT_EQ(full.wanted, 3u);
  EXPECT_EQ(full.look_again_ns, 0) << "nothing that time alone could change";
  const auto rest = scaling.look({.serving = 3}, kStart + 1000 * kSecond);
  EXPECT_EQ(rest.wanted, 3u) << "three were busy until now";
  const auto later = scaling.look({.serving = 3}, kStart + 1000 * kSecond + kShrink);
  EXPECT_EQ(later.wanted, 2u);
  EXPECT_EQ(later.look_again_ns, 0) << "at rest nothing ticks";
}

TEST(Scaling, GivesBackWhatWasNotNeededForAWhile) {
  Scaling scaling = scaling_of({.min = 1, .max = 4, .wanted = 3});
  EXPECT_EQ(scaling.look({.serving = 3, .busy = 2}, kStart + kShrink - 1).wanted, 3u);
  const auto decision = scaling.look({.serving = 3, .busy = 1}, kStart + kShrink);
  EXPECT_EQ(decision.wanted, 2u) << "two were busy until just now";
  EXPECT_EQ(decision.look_again_ns, kStart + 2 * kShrink);
  EXPECT_EQ(scaling.look({.serving = 2, .busy = 1}, kStart + 2 * kShrink).wanted, 1u);
}

TEST(Scaling, RequestsThatComeAndGoChangeNothing) {
  Scaling scaling = scaling_of({.min = 1, .max = 4, .wanted = 2});
  std::int64_t now = kStart;
  for (int burst = 0; burst < 10; ++burst) {
    EXPECT_EQ(scaling.look({.serving = 2, .busy = 2}, now).wanted, 2u);
    EXPECT_EQ(scaling.look({.serving = 2, .busy = 0}, now += kSecond).wanted, 2u);
    EXPECT_EQ(scaling.look({.serving = 2, .busy = 0}, now += kShrink - 1).wanted, 2u);
  }
}

TEST(Scaling, OneThatFindsNoRoomIsNoLongerWantedOnceTheRequestsCease) {
  Scaling scaling = one_to(2);
  const std::int64_t now = kStart + 10 * kSecond;
  EXPECT_EQ(scaling.look({.serving = 1, .busy = 1, .waiting_since_ns = kStart}, now).wanted, 2u);
  EXPECT_EQ(scaling.look({.serving = 1, .busy = 1, .waiting_since_ns = now}, now + kShrink).wanted,
            2u)
      << "they still wait";
  const auto calm = scaling.look({.serving = 1, .busy = 1}, now + kShrink + kSecond);
  EXPECT_EQ(calm.wanted, 2u);
  EXPECT_EQ(calm.look_again_ns, now + 2 * kShrink);
  EXPECT_EQ(scaling.look({.serving = 1, .busy = 1}, now + 2 * kShrink).wanted, 1u);
}

TEST(Scaling, NarrowerLimitsHoldAtOnce) {
  Scaling scaling = scaling_of({.min = 1, .max = 8, .wanted = 6});
  scaling.set_limits({.min = 1, .max = 3, .wanted = 6}, kStart);
  EXPECT_EQ(scaling.wanted(), 3u);
  scaling.set_limits({.min = 5, .max = 9, .wanted = 6}, kStart);
  EXPECT_EQ(scaling.wanted(), 5u);
}

}  // namespace
}  // namespace loam::gateway
