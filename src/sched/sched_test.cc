#include "sched/sched.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace loam::sched {
namespace {

constexpr std::uint64_t kGiB = 1u << 30;
constexpr std::int64_t kMinute = 60'000;
constexpr std::int64_t kHour = 60 * kMinute;

State machine(std::uint32_t cpus, std::uint64_t memory_bytes, std::uint32_t gpus = 0,
              Policy policy = {}) {
  return make_state(simple_machine({.cpus = cpus,
                                    .memory_bytes = memory_bytes,
                                    .gpus = gpus,
                                    .gpu_memory_bytes = 80 * kGiB}),
                    std::move(policy));
}

Claim claim(ClaimId id, std::uint64_t cpu_milli, std::uint64_t memory_bytes = 0) {
  return {.id = id,
          .user = "anna",
          .account = "lab",
          .rank = {.cpu_milli = cpu_milli, .memory_bytes = memory_bytes}};
}

Claim gpu_claim(ClaimId id, std::uint32_t count, std::int64_t limit_ms = 0) {
  Claim one = claim(id, 100);
  one.rank.devices = {{.count = count}};
  one.time_limit_ms = limit_ms;
  return one;
}

// Submits, checks the invariants, and tells who was granted.
std::vector<ClaimId> granted(const Actions& actions) {
  std::vector<ClaimId> list;
  for (const Action& action : actions)
    if (action.kind == Action::Kind::grant) list.push_back(action.claim);
  return list;
}
std::vector<ClaimId> preempted(const Actions& actions) {
  std::vector<ClaimId> list;
  for (const Action& action : actions)
    if (action.kind == Action::Kind::preempt) list.push_back(action.claim);
  return list;
}
using Ids = std::vector<ClaimId>;

struct World {
  State state;
  Time now = 1'000'000;
  Ids submit(const Claim& one) {
    EXPECT_EQ(refusal(state, one), "");
    Actions actions;
    on_submitted(state, one, now, actions);
    return seen(actions);
  }
  Ids release(ClaimId id) {
    Actions actions;
    on_released(state, id, now, actions);
    return seen(actions);
  }
  Ids seen(const Actions& actions) {
    EXPECT_EQ(insane(state, now), "");
    victims = preempted(actions);
    last = actions;
    return granted(actions);
  }
  std::string why(ClaimId id) {
    return explanation_text(
        explain(state, id, look_ahead(state, now, 100)),
        {[](ClaimId other) { return "job " + std::to_string(other); },
         [&](Time time) { return "+" + std::to_string((time - now) / kMinute) + " min"; }});
  }
  Ids victims;
  Actions last;
};

TEST(Sched, GrantsInOrderOfArrivalAndNobodyDelaysTheFirst) {
  World world{machine(2, 4 * kGiB)};
  EXPECT_EQ(world.submit(claim(1, 1500, kGiB)), (Ids{1}));
  EXPECT_EQ(world.submit(claim(2, 1000, kGiB)), (Ids{}));  // does not fit beside 1
  EXPECT_EQ(world.submit(claim(3, 750, kGiB)), (Ids{}));   // nobody knows how long 2 waits
  EXPECT_EQ(world.release(1), (Ids{2, 3}));
}

TEST(Sched, CancellingTheFirstWaitingClaimLetsTheNextRun) {
  World world{machine(2, 4 * kGiB)};
  world.submit(claim(1, 1500, kGiB));
  world.submit(claim(2, 2000, kGiB));
  world.submit(claim(3, 500, kGiB));
  EXPECT_EQ(world.release(2), (Ids{3}));
  EXPECT_EQ(world.release(2), (Ids{}));  // again: nothing
}

TEST(Sched, MemoryAloneHoldsAClaimBack) {
  World world{machine(8, 4 * kGiB)};
  EXPECT_EQ(world.submit(claim(1, 100, 3 * kGiB)), (Ids{1}));
  EXPECT_EQ(world.submit(claim(2, 100, 2 * kGiB)), (Ids{}));
  EXPECT_EQ(world.why(2), "1.0 GiB of 2.0 GiB memory free; behind job 1 (no time limit)");
}

TEST(Sched, AMachineThatShrinksKeepsWhatRunsAndSaysWhatCanNoLongerStart) {
  World world{machine(4, 4 * kGiB)};
  world.submit(claim(1, 3000, kGiB));
  world.submit(claim(2, 2000, kGiB));
  Actions actions;
  on_machine_changed(world.state, simple_machine({.cpus = 1, .memory_bytes = 4 * kGiB}), world.now,
                     actions);
  EXPECT_EQ(world.seen(actions), (Ids{}));
  EXPECT_TRUE(world.state.overcommitted);
  EXPECT_EQ(world.why(2), "cannot start: asks for 2 CPUs; this machine has 1");
  on_machine_changed(world.state, simple_machine({.cpus = 5, .memory_bytes = 4 * kGiB}), world.now,
                     actions);
  EXPECT_EQ(world.seen(actions), (Ids{2}));
}

TEST(Sched, RefusesWhatNeverFits) {
  const State state = machine(2, 4 * kGiB, 2);
  EXPECT_EQ(refusal(state, claim(1, 64000)), "asks for 64 CPUs; this machine has 2");
  EXPECT_EQ(refusal(state, claim(1, 1000, 8 * kGiB)),
            "asks for 8.0 GiB of memory; this machine has 4.0 GiB");
  EXPECT_EQ(refusal(state, claim(1, 2000, 4 * kGiB)), "");
  EXPECT_EQ(refusal(state, gpu_claim(1, 4)), "asks for 4 GPUs; this machine has 2 GPUs (80.0 GiB)");
  Claim model = gpu_claim(1, 1);
  model.rank.devices[0].model = "H100";
  EXPECT_EQ(refusal(state, model), "asks for 1 H100 GPU; this machine has 2 GPUs (80.0 GiB)");
  Claim tpu = gpu_claim(1, 1);
  tpu.rank.devices[0].kind = "tpu";
  EXPECT_EQ(refusal(state, tpu), "asks for 1 tpu; this machine has no tpus");
}

TEST(Sched, HigherPriorityGoesFirst) {
  World world{machine(1, kGiB)};
  world.submit(claim(1, 1000));
  world.submit(claim(2, 1000));
  Claim urgent = claim(3, 1000);
  urgent.priority = 5;
  world.submit(urgent);
  EXPECT_EQ(world.release(1), (Ids{3}));
  EXPECT_EQ(world.release(3), (Ids{2}));
}

TEST(Sched, BackfillsWhatEndsBeforeTheReservation) {
  World world{machine(8, kGiB, 4)};
  EXPECT_EQ(world.submit(gpu_claim(1, 3, 60 * kMinute)), (Ids{1}));
  EXPECT_EQ(world.submit(gpu_claim(2, 4, 60 * kMinute)), (Ids{}));
  EXPECT_EQ(world.submit(gpu_claim(3, 1, 90 * kMinute)), (Ids{}));  // would delay 2
  EXPECT_EQ(world.submit(gpu_claim(4, 1)), (Ids{}));                // no limit: would delay 2
  EXPECT_EQ(world.submit(gpu_claim(5, 1, 60 * kMinute)), (Ids{5}));
  EXPECT_EQ(world.why(2),
            "0 of 4 GPUs free; behind job 1 until about +60 min and 1 other; expected start about "
            "+60 min");
  world.now += 30 * kMinute;
  EXPECT_EQ(world.release(1), (Ids{}));
  EXPECT_EQ(world.why(3), "1 claim ahead, first job 2; expected start about +90 min");
  EXPECT_EQ(world.release(5), (Ids{2}));
}

TEST(Sched, WhileNobodyKnowsTheStartShortClaimsFillIn) {
  World world{machine(8, kGiB, 4)};
  world.submit(gpu_claim(1, 2));  // no limit
  EXPECT_EQ(world.submit(gpu_claim(2, 4, kHour)), (Ids{}));
  EXPECT_EQ(world.submit(gpu_claim(3, 1, 2 * kHour)), (Ids{}));
  EXPECT_EQ(world.submit(gpu_claim(4, 1, kHour)), (Ids{4}));
}

TEST(Sched, AGangStartsWholeOrNotAtAll) {
  World world{machine(8, kGiB, 4)};
  world.submit(gpu_claim(1, 1));
  Claim gang = gpu_claim(2, 1);
  gang.ranks = 4;
  EXPECT_EQ(world.submit(gang), (Ids{}));
  EXPECT_EQ(world.release(1), (Ids{2}));
  ASSERT_EQ(placement_of(world.state, 2)->ranks.size(), 4U);
  for (const RankPlacement& rank : placement_of(world.state, 2)->ranks)
    EXPECT_EQ(rank.devices.size(), 1U);
}

TEST(Sched, AnArrayIsOneClaimWithManyTasks) {
  World world{machine(4, kGiB)};
  Claim array = claim(1, 1000);
  array.tasks = 6;
  array.tasks_at_once = 3;
  EXPECT_EQ(world.submit(array), (Ids{1, 1, 1}));
  EXPECT_EQ(world.last[2].task, 2U);
  Actions actions;
  on_task_ended(world.state, 1, 1, world.now, actions);
  EXPECT_EQ(world.seen(actions), (Ids{1}));
  EXPECT_EQ(actions[0].task, 3U);
  actions.clear();
  on_task_requeued(world.state, 1, 0, world.now, actions);  // lost: it comes again
  EXPECT_EQ(world.seen(actions), (Ids{1}));
  EXPECT_EQ(actions[0].task, 0U);
  for (const TaskId task : {0U, 2U, 3U, 4U, 5U}) {
    actions.clear();
    on_task_ended(world.state, 1, task, world.now, actions);
    world.seen(actions);
  }
  EXPECT_EQ(world.state.find(1), nullptr);
}

TEST(Sched, HeldClaimsWait) {
  World world{machine(2, kGiB)};
  Claim held = claim(1, 1000);
  held.held = true;
  EXPECT_EQ(world.submit(held), (Ids{}));
  EXPECT_EQ(world.why(1), "held");
  Actions actions;
  on_unheld(world.state, 1, world.now, actions);
  EXPECT_EQ(world.seen(actions), (Ids{1}));
}

TEST(Sched, UsersTakeTurns) {
  World world{machine(4, kGiB)};
  Ids order;
  for (ClaimId id = 1; id <= 8; ++id) world.submit(claim(id, 1000));
  for (ClaimId id = 11; id <= 14; ++id) {
    Claim other = claim(id, 1000);
    other.user = "bert";
    world.submit(other);
  }
  // Anna holds all four; what becomes free is Bert's until they hold alike.
  world.now += kMinute;
  EXPECT_EQ(world.release(1), (Ids{11}));
  EXPECT_EQ(world.release(2), (Ids{12}));
  EXPECT_EQ(world.release(3), (Ids{5}));  // he holds two, she one
  world.now += 100 * kHour;               // and now she has used less
  EXPECT_EQ(world.release(4), (Ids{6}));
}

TEST(Sched, SharesDivideTheMachine) {
  Policy policy;
  policy.accounts["big"].shares = 3;
  policy.accounts["small"].shares = 1;
  policy.half_life_ms = 10 * kHour;
  World world{machine(8, kGiB, 0, policy)};
  ClaimId next = 1;
  std::map<ClaimId, std::string> running;
  std::map<std::string, int> done;
  const auto submit = [&](const std::string& account) {
    Claim one = claim(next, 1000);
    one.account = account;
    one.user = account + "-user";
    running[next++] = account;
    world.submit(one);
  };
  for (int i = 0; i < 400; ++i) submit("big"), submit("small");
  for (int step = 0; step < 300; ++step) {
    world.now += 10 * kMinute;
    Ids holders;
    for (const Holding& holding : world.state.holdings)
      if (holding.claim != 0) holders.push_back(holding.claim);
    const ClaimId oldest =
        *std::min_element(holders.begin(), holders.end(), [&](ClaimId a, ClaimId b) {
          const auto started = [&](ClaimId id) {
            return world.state.holdings[world.state.find(id)->running.at(0)].started;
          };
          return std::pair(started(a), a) < std::pair(started(b), b);
        });
    ++done[running[oldest]];
    world.release(oldest);
  }
  EXPECT_NEAR(done["big"], 225, 8);
  EXPECT_NEAR(done["small"], 75, 8);
}

TEST(Sched, UsageIsForgottenByHalves) {
  Policy policy;
  policy.half_life_ms = kHour;
  State state = machine(4, kGiB, 0, policy);
  Actions actions;
  on_submitted(state, claim(1, 1000), 0, actions);
  on_released(state, 1, kHour / 100, actions);
  const auto amount = [&](Time now) { return state.fair_share.rows(now).at(0).amount; };
  const std::int64_t at_first = amount(kHour / 100);
  EXPECT_NEAR(static_cast<double>(at_first), 36e3 * 1000, 36e3 * 10);
  EXPECT_NEAR(static_cast<double>(amount(kHour / 100 + kHour)), static_cast<double>(at_first) / 2,
              1e4);
  EXPECT_NEAR(static_cast<double>(amount(kHour / 100 + 3 * kHour)),
              static_cast<double>(at_first) / 8, 1e4);
}

TEST(Sched, UsageSurvivesARestart) {
  Policy policy;
  State before = machine(4, kGiB, 0, policy);
  Actions actions;
  on_submitted(before, claim(1, 1000), 0, actions);
  on_released(before, 1, kHour, actions);
  State after = machine(4, kGiB, 0, policy);
  for (const UsageRow& row : before.fair_share.rows(kHour)) restore_usage(after, row, kHour);
  EXPECT_EQ(after.fair_share.rows(kHour).at(0).amount, before.fair_share.rows(kHour).at(0).amount);
  EXPECT_EQ(insane(after, kHour), "");
}

TEST(Sched, QuotasHoldBackAndDoNotBlock) {
  Policy policy;
  policy.users["anna"].quota = Quota{.devices = {{"gpu", 2}}, .queued = 3};
  World world{machine(8, kGiB, 4, policy)};
  EXPECT_EQ(refusal(world.state, gpu_claim(9, 3)),
            "asks for 3 GPUs; anna may hold 2 GPUs at a time");
  EXPECT_EQ(world.submit(gpu_claim(1, 2)), (Ids{1}));
  EXPECT_EQ(world.submit(gpu_claim(2, 1)), (Ids{}));
  EXPECT_EQ(world.why(2), "anna holds 2 of at most 2 GPUs");
  Claim other = gpu_claim(3, 2);
  other.user = "bert";
  EXPECT_EQ(world.submit(other), (Ids{3}));
  world.submit(gpu_claim(4, 1));
  world.submit(gpu_claim(5, 1));
  EXPECT_EQ(refusal(world.state, gpu_claim(6, 1)), "") << "it can run, only not wait now";
  const auto full = queue_refusal(world.state, gpu_claim(6, 1), 1);
  ASSERT_TRUE(full);
  EXPECT_EQ(full->text, "anna has 3 of at most 3 claims in the queue");
  EXPECT_FALSE(full->never);
  const auto many = queue_refusal(world.state, gpu_claim(6, 1), 4);
  ASSERT_TRUE(many);
  EXPECT_EQ(many->text, "anna has 3 of at most 3 claims in the queue; these are 4 more");
  EXPECT_TRUE(many->never);
  EXPECT_FALSE(queue_refusal(world.state, other, 4));
  EXPECT_EQ(world.release(1), (Ids{2, 4}));
}

TEST(Sched, PreemptsTheNewestAndNeverMoreThanNeeded) {
  World world{machine(8, kGiB, 4)};
  for (ClaimId id = 1; id <= 4; ++id) {
    Claim job = gpu_claim(id, 1);
    job.preemptible = true;
    job.grace_ms = 30'000;
    world.submit(job);
    world.now += kMinute;
  }
  Claim service = gpu_claim(5, 1);
  service.kind = ClaimKind::service;
  service.priority = 10;
  EXPECT_EQ(world.submit(service), (Ids{}));
  EXPECT_EQ(world.victims, (Ids{4}));
  EXPECT_EQ(world.last[0].beneficiary, 5U);
  // While the victim's grace runs nobody else is asked to go.
  world.now += 10'000;
  EXPECT_EQ(world.submit(gpu_claim(6, 1)), (Ids{}));
  EXPECT_TRUE(world.victims.empty());
  Actions actions;
  on_task_requeued(world.state, 4, 0, world.now, actions);
  EXPECT_EQ(world.seen(actions), (Ids{5}));
  EXPECT_TRUE(world.victims.empty());
  EXPECT_EQ(world.release(5), (Ids{4}));  // it came before 6
}

TEST(Sched, PreemptsOnlyStrictlyLowerAndOnlyWhatMayBe) {
  World world{machine(8, kGiB, 2)};
  Claim job = gpu_claim(1, 1);
  job.priority = 5;
  job.preemptible = true;
  world.submit(job);
  world.submit(gpu_claim(2, 1));  // not preemptible
  Claim same = gpu_claim(3, 1);
  same.priority = 5;
  world.submit(same);
  EXPECT_TRUE(world.victims.empty());
  Claim both = gpu_claim(4, 2);
  both.priority = 9;
  world.submit(both);  // one victim would not help
  EXPECT_TRUE(world.victims.empty());
  Claim one = gpu_claim(5, 1);
  one.priority = 9;
  world.submit(one);
  EXPECT_TRUE(world.victims.empty());  // 4 is ahead, and what becomes free is kept for it
}

TEST(Sched, OneLargeVictimBeforeManySmallOnes) {
  World world{machine(8, kGiB, 4)};
  Claim large = gpu_claim(1, 2);
  large.preemptible = true;
  world.submit(large);
  world.now += kMinute;
  for (ClaimId id = 2; id <= 3; ++id) {
    Claim job = gpu_claim(id, 1);
    job.preemptible = true;
    world.submit(job);
  }
  Claim urgent = gpu_claim(4, 2);
  urgent.priority = 1;
  world.submit(urgent);
  EXPECT_EQ(world.victims, (Ids{1}));
}

TEST(Sched, ADrainedDeviceIsNotGivenAgainAndSaysWhy) {
  World world{machine(8, kGiB, 2)};
  world.submit(gpu_claim(1, 1));
  Actions actions;
  on_device_changed(world.state, "gpu-0", DeviceState::drained, "Xid 79", world.now, actions);
  on_device_changed(world.state, "gpu-1", DeviceState::busy, "anna, pid 7", world.now, actions);
  EXPECT_EQ(world.seen(actions), (Ids{}));
  EXPECT_EQ(world.submit(gpu_claim(2, 1)), (Ids{}));
  EXPECT_EQ(world.why(2), "0 of 1 GPU free, gpu-0 drained (Xid 79), gpu-1 busy (anna, pid 7)");
  EXPECT_EQ(world.release(1), (Ids{}));
  // It waits for devices that are out of service, and keeps nobody else from running.
  EXPECT_EQ(world.submit(claim(3, 8000)), (Ids{3}));
  world.release(3);
  on_device_changed(world.state, "gpu-1", DeviceState::usable, "", world.now, actions);
  EXPECT_EQ(world.seen(actions), (Ids{2}));
}

TEST(Sched, AdoptedClaimsCountEvenOnAMachineThatShrank) {
  World world{machine(1, kGiB)};
  on_adopted(world.state, claim(1, 2000, kGiB), {}, world.now);
  EXPECT_EQ(insane(world.state, world.now), "");
  EXPECT_EQ(world.submit(claim(2, 1000)), (Ids{}));
  EXPECT_EQ(world.release(1), (Ids{2}));
}

TEST(Sched, SaneSeesWhatIsWrong) {
  State state = machine(2, kGiB);
  Actions actions;
  on_submitted(state, claim(1, 1000), 0, actions);
  on_submitted(state, claim(2, 2000), 0, actions);
  ASSERT_EQ(insane(state, 0), "");
  State wrong = state;
  wrong.free[kCpu] += 1;
  EXPECT_EQ(insane(wrong, 0), "what is free is not what is left");
  wrong = state;
  wrong.users[0].running = 2;
  EXPECT_EQ(insane(wrong, 0), "a user's book is wrong");
  wrong = state;
  wrong.find(2)->queued = false;
  EXPECT_NE(insane(wrong, 0), "");
  wrong = state;
  wrong.usable[kCpu] += 1000;
  wrong.free[kCpu] += 1000;
  wrong.policy.fair_share = false;
  EXPECT_EQ(insane(wrong, 0), "the first in order fits and does not run");
}

TEST(Sched, TheMachineMayChangeUnderRunningClaims) {
  World world{machine(4, kGiB, 2)};
  world.submit(gpu_claim(1, 2));
  world.submit(gpu_claim(2, 1));
  Actions actions;
  on_machine_changed(
      world.state,
      simple_machine({.cpus = 4, .memory_bytes = kGiB, .gpus = 4, .gpu_memory_bytes = kGiB}),
      world.now, actions);
  EXPECT_EQ(world.seen(actions), (Ids{2}));
  actions.clear();
  on_machine_changed(world.state, simple_machine({.cpus = 4, .memory_bytes = kGiB}), world.now,
                     actions);
  world.seen(actions);
  EXPECT_EQ(world.release(1), (Ids{}));
  EXPECT_EQ(world.release(2), (Ids{}));
}

}  // namespace
}  // namespace loam::sched
