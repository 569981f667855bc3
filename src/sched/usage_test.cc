#include "sched/usage.h"

#include <gtest/gtest.h>

namespace loam::sched {
namespace {

constexpr Time kStart = 1'700'000'000'000;
constexpr std::int64_t kDay = 24LL * 3600 * 1000;
constexpr std::int64_t kRate = 17'250;

// What FairShare itself makes of it, as it happens.
std::int64_t lived_through(Time from, Time to, std::int64_t half_life_ms, Time now) {
  FairShare fair(Policy{.half_life_ms = half_life_ms});
  const auto one = fair.association("lab", "anna");
  fair.change_rate(one, kRate, from);
  fair.change_rate(one, -kRate, to);
  const auto rows = fair.rows(now);
  return rows.empty() ? 0 : rows[0].amount;
}

TEST(AmountLeft, IsWhatANodeThatLivedThroughItHas) {
  const std::int64_t half_life = 7 * kDay;
  for (const std::int64_t held : {std::int64_t{1}, std::int64_t{60'000}, 3 * kDay, 40 * kDay})
    for (const std::int64_t ago : {std::int64_t{0}, kDay, 20 * kDay}) {
      const Time to = kStart + held, now = to + ago;
      const auto lived = static_cast<double>(lived_through(kStart, to, half_life, now));
      // Both round: moments to the half-life / 2^32 (0.14 ms), 2^x to 16 bits behind the point.
      EXPECT_NEAR(static_cast<double>(
                      amount_left({.amount = kRate * held, .from = kStart, .to = to}, half_life, now)),
                  lived, 0.3 * kRate + lived / 30'000)
          << held << " ms, " << ago << " ms ago";
    }
}

TEST(AmountLeft, HalvesWithEachHalfLifeAndEnds) {
  const HeldSpan span{.amount = 60'000'000'000, .from = kStart, .to = kStart + 60'000};
  const auto after = [&](std::int64_t half_lives) {
    return static_cast<double>(amount_left(span, kDay, span.to + half_lives * kDay));
  };
  EXPECT_NEAR(after(0), 60e9, 60e9 / 1000);
  EXPECT_NEAR(after(1), after(0) / 2, after(0) / 1000);
  EXPECT_NEAR(after(10), after(0) / 1024, after(0) / 1'000'000);
  EXPECT_EQ(after(kHalfLivesCounted + 1), 0);
}

TEST(AmountLeft, MomentsAndTimesToCome) {
  EXPECT_EQ(amount_left({.amount = 5, .from = kStart, .to = kStart}, kDay, kStart), 5);
  EXPECT_EQ(amount_left({.amount = 500, .from = kStart - kDay, .to = kStart - kDay}, kDay, kStart), 250);
  EXPECT_EQ(amount_left({.amount = 0, .from = kStart - 9, .to = kStart}, kDay, kStart), 0);
  // Of a clock that was ahead: as if it were now.
  EXPECT_EQ(amount_left({.amount = 5, .from = kStart + 1, .to = kStart + 2}, kDay, kStart), 5);
  EXPECT_NEAR(static_cast<double>(amount_left(
                  {.amount = 1'000'000, .from = kStart - 1000, .to = kStart + kDay}, kDay, kStart)),
              1'000'000, 1000);
}

}  // namespace
}  // namespace loam::sched
