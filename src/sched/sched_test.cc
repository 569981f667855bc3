#include "sched/sched.h"

#include <gtest/gtest.h>

#include <random>

#include "base/sha256.h"

namespace loam::sched {
namespace {

constexpr std::uint64_t kGiB = 1u << 30;

State machine(std::uint64_t cpu_milli, std::uint64_t memory_bytes) {
  State state;
  state.total = {cpu_milli, memory_bytes};
  return state;
}

std::vector<ClaimId> ids(const Actions& actions) {
  std::vector<ClaimId> list;
  for (const Action& action : actions) list.push_back(action.claim);
  return list;
}

TEST(Sched, GrantsInOrderOfArrivalAndNobodyOvertakes) {
  State state = machine(2000, 4 * kGiB);
  Actions actions;
  on_submitted(state, {1, {1500, kGiB}}, actions);
  on_submitted(state, {2, {1000, kGiB}}, actions);  // does not fit beside 1
  on_submitted(state, {3, {500, kGiB}}, actions);   // would fit, but 2 came first
  EXPECT_EQ(ids(actions), (std::vector<ClaimId>{1}));
  EXPECT_TRUE(sane(state));
  actions.clear();
  on_released(state, 1, actions);
  EXPECT_EQ(ids(actions), (std::vector<ClaimId>{2, 3}));
  EXPECT_TRUE(sane(state));
}

TEST(Sched, CancellingTheFirstWaitingClaimLetsTheNextRun) {
  State state = machine(2000, 4 * kGiB);
  Actions actions;
  on_submitted(state, {1, {1500, kGiB}}, actions);
  on_submitted(state, {2, {2000, kGiB}}, actions);
  on_submitted(state, {3, {500, kGiB}}, actions);
  actions.clear();
  on_released(state, 2, actions);
  EXPECT_EQ(ids(actions), (std::vector<ClaimId>{3}));
  on_released(state, 2, actions);  // again: nothing
  EXPECT_EQ(actions.size(), 1U);
  EXPECT_TRUE(sane(state));
}

TEST(Sched, MemoryAloneHoldsAClaimBack) {
  State state = machine(8000, 4 * kGiB);
  Actions actions;
  on_submitted(state, {1, {100, 3 * kGiB}}, actions);
  on_submitted(state, {2, {100, 2 * kGiB}}, actions);
  EXPECT_EQ(ids(actions), (std::vector<ClaimId>{1}));
  EXPECT_EQ(explain(state, 2), "waits for 2.0 GiB of 4.0 GiB memory (1.0 GiB free)");
}

TEST(Sched, RefusesWhatNeverFits) {
  const State state = machine(2000, 4 * kGiB);
  EXPECT_EQ(refusal(state, {64000, 0}), "asks for 64 CPUs; this machine has 2");
  EXPECT_EQ(refusal(state, {1000, 8 * kGiB}),
            "asks for 8.0 GiB of memory; this machine has 4.0 GiB");
  EXPECT_EQ(refusal(state, {2000, 4 * kGiB}), "");
}

TEST(Sched, Explains) {
  State state = machine(2000, 4 * kGiB);
  Actions actions;
  on_submitted(state, {1, {1500, kGiB}}, actions);
  on_submitted(state, {2, {1500, kGiB}}, actions);
  on_submitted(state, {3, {250, kGiB}}, actions);
  EXPECT_EQ(explain(state, 1), "");
  EXPECT_EQ(explain(state, 2), "waits for 1.5 of 2 CPUs (0.5 free)");
  EXPECT_EQ(explain(state, 3), "waits behind 1 claim");
  EXPECT_EQ(explain(state, 99), "");
}

TEST(Sched, AdoptedClaimsCountEvenOnAMachineThatShrank) {
  State state = machine(1000, kGiB);
  on_adopted(state, {1, {2000, kGiB}});
  EXPECT_TRUE(sane(state));
  Actions actions;
  on_submitted(state, {2, {1000, 0}}, actions);
  EXPECT_TRUE(actions.empty());
  on_released(state, 1, actions);
  EXPECT_EQ(ids(actions), (std::vector<ClaimId>{2}));
  EXPECT_TRUE(sane(state));
}

TEST(Sched, SaneSeesWhatIsWrong) {
  State state = machine(2000, kGiB);
  Actions actions;
  on_submitted(state, {1, {1000, 0}}, actions);
  State wrong = state;
  wrong.used.cpu_milli += 1;
  EXPECT_FALSE(sane(wrong));
  wrong = state;
  wrong.queue.push_back(1);
  EXPECT_FALSE(sane(wrong));
  wrong = state;
  wrong.total.cpu_milli = 500;
  EXPECT_FALSE(sane(wrong));
  wrong = machine(2000, kGiB);  // waits although it fits
  wrong.claims[7] = {{7, {1, 1}}, ClaimState::waiting};
  wrong.queue.push_back(7);
  EXPECT_FALSE(sane(wrong));
}

// A world of random events; returns a digest of every action and final state.
std::string simulate(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto below = [&](std::uint64_t limit) { return random() % limit; };
  State state = machine(1000 + below(16) * 1000, (1 + below(64)) * kGiB);
  std::string trail;
  ClaimId next = 1;
  std::vector<ClaimId> granted_order;
  for (int step = 0; step < 2000; ++step) {
    Actions actions;
    if (const std::uint64_t dice = below(10); dice < 5) {
      const Claim claim{next, {below(4) * 500, below(8) * kGiB}};
      if (refusal(state, claim.amount).empty()) on_submitted(state, claim, actions), ++next;
    } else if (dice == 5 && state.claims.size() < 3) {
      on_adopted(state, {next++, {below(20) * 1000, kGiB}});
    } else if (!state.claims.empty()) {
      auto victim = state.claims.begin();
      std::advance(victim, static_cast<std::ptrdiff_t>(below(state.claims.size())));
      on_released(state, victim->first, actions);
    }
    EXPECT_TRUE(sane(state)) << "seed " << seed << " step " << step;
    if (!sane(state)) break;
    for (const Action& action : actions) {
      EXPECT_TRUE(granted_order.empty() || granted_order.back() < action.claim)
          << "seed " << seed << ": claim " << action.claim << " came after an older one";
      granted_order.push_back(action.claim);
      trail += std::to_string(step) + ":" + std::to_string(action.claim) + ";";
    }
  }
  trail += std::to_string(state.used.cpu_milli) + "," + std::to_string(state.used.memory_bytes);
  for (const ClaimId id : state.queue) trail += "," + std::to_string(id) + explain(state, id);
  return sha256_of(trail).hex();
}

TEST(Sched, StaysSaneUnderRandomEventsAndRepeatsBySeed) {
  std::string previous;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    const std::string first = simulate(seed);
    EXPECT_EQ(first, simulate(seed)) << "seed " << seed;
    EXPECT_NE(first, previous) << "seed " << seed;
    previous = first;
  }
}

}  // namespace
}  // namespace loam::sched
