// The simulation beside a naive one, and on traces whose numbers are worked out by hand.
#include "sim/simulate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "sim/measures.h"

namespace loam::sim {
namespace {

constexpr std::int64_t kSecond = 1000;

struct Asked {
  std::int64_t submit_s = 0, run_s = 0;
  std::uint64_t cpus = 0;
  std::uint64_t gpu_milli = 0;
  std::int64_t limit_s = 0;
  std::int32_t priority = 0;
  std::uint32_t user = 0;  // 0: "a", 1: "b", …
};

Trace trace_of(const std::vector<Asked>& jobs) {
  Trace trace;
  trace.accounts = {""};
  for (const Asked& one : jobs) {
    while (trace.users.size() <= one.user)
      trace.users.emplace_back(1, static_cast<char>('a' + trace.users.size()));
    trace.has_cpus = trace.has_cpus || one.cpus > 0;
    trace.jobs.push_back({.submit_ms = one.submit_s * kSecond,
                          .duration_ms = one.run_s * kSecond,
                          .limit_ms = one.limit_s * kSecond,
                          .cpu_milli = one.cpus * 1000,
                          .gpu_milli = one.gpu_milli,
                          .priority = one.priority,
                          .user = one.user});
  }
  return trace;
}

Options on(const sched::SimpleMachine& machine) {
  Options options;
  options.machine = simple_machine(machine);
  return options;
}

std::vector<std::int64_t> starts_s(const Outcome& outcome) {
  std::vector<std::int64_t> starts;
  for (const JobOutcome& one : outcome.jobs)
    starts.push_back(one.start_ms < 0 ? -1 : one.start_ms / kSecond);
  return starts;
}

std::vector<std::int64_t> ends_s(const Outcome& outcome) {
  std::vector<std::int64_t> ends;
  for (const JobOutcome& one : outcome.jobs) ends.push_back(one.end_ms / kSecond);
  return ends;
}

// 100 jobs of 30 s at once on one CPU: the k-th waits 30 k, the mean is 30 · 99/2 = 1485 s, the
// median (50th of 100) 30 · 49 = 1470, the 95th 30 · 94 = 2820. One after the other: always in use.
TEST(Simulate, EqualJobsAtOnceWaitForThoseBefore) {
  const Trace trace = trace_of(std::vector<Asked>(100, {.run_s = 30, .cpus = 1}));
  const Options options = on({.cpus = 1});
  const Outcome outcome = simulate(trace, options);
  for (std::size_t k = 0; k < 100; ++k)
    EXPECT_EQ(outcome.jobs[k].start_ms, static_cast<std::int64_t>(k) * 30 * kSecond);
  const Measures measures = measure(trace, options, outcome);
  EXPECT_EQ(measures.finished, 100u);
  EXPECT_DOUBLE_EQ(measures.wait_s.mean, 1485);
  EXPECT_DOUBLE_EQ(measures.wait_s.median, 1470);
  EXPECT_DOUBLE_EQ(measures.wait_s.p95, 2820);
  EXPECT_DOUBLE_EQ(measures.wait_s.max, 2970);
  EXPECT_DOUBLE_EQ(measures.slowdown.max, 100);  // (2970 + 30) / 30
  EXPECT_DOUBLE_EQ(measures.span_s, 3000);
  EXPECT_DOUBLE_EQ(*measures.cpu_used, 1);
  EXPECT_FALSE(measures.gpu_used);
  EXPECT_EQ(measures.decisions.count, 200u);
  EXPECT_EQ(outcome.waiting_most, 99u);
}

// One every 10 s, each 12 s, one server: the k-th waits 2 k (D/D/1 over its load).
TEST(Simulate, AQueueOverItsLoadGrowsByTheDifference) {
  std::vector<Asked> jobs;
  for (std::int64_t k = 0; k < 50; ++k)
    jobs.push_back({.submit_s = 10 * k, .run_s = 12, .gpu_milli = 1000});
  const Outcome outcome = simulate(trace_of(jobs), on({.gpus = 1}));
  for (std::int64_t k = 0; k < 50; ++k)
    EXPECT_EQ(outcome.jobs[static_cast<std::size_t>(k)].start_ms, 12 * k * kSecond);
}

// First come, first served, nobody overtakes: a job starts when the one before it has started and
// enough is free. Said once more in the simplest way, and compared job by job.
std::vector<std::int64_t> naive_starts_ms(const Trace& trace, std::int64_t cpu_milli) {
  std::vector<std::int64_t> starts;
  std::vector<std::pair<std::int64_t, std::int64_t>> running;  // end, CPUs
  std::int64_t last = 0;
  for (const Job& job : trace.jobs) {
    const auto wanted = static_cast<std::int64_t>(job.cpu_milli);
    if (wanted > cpu_milli) {
      starts.push_back(-1);
      continue;
    }
    std::int64_t now = std::max(last, job.submit_ms);
    for (;;) {
      std::int64_t used = 0, next = -1;
      for (const auto& [end, cpus] : running) {
        if (end <= now) continue;
        used += cpus;
        next = next < 0 ? end : std::min(next, end);
      }
      if (used + wanted <= cpu_milli) break;
      now = next;
    }
    starts.push_back(now);
    running.emplace_back(now + job.duration_ms, wanted);
    last = now;
  }
  return starts;
}

TEST(Simulate, EqualsANaiveFirstComeFirstServed) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    std::mt19937 random(seed);
    std::vector<Asked> jobs;
    std::int64_t now = 0;
    for (int i = 0; i < 400; ++i) {
      now += random() % 20;
      jobs.push_back({.submit_s = now,
                      .run_s = static_cast<std::int64_t>(random() % 100),
                      .cpus = 1 + random() % 9,
                      .limit_s = random() % 2 == 0 ? 200 : 0,
                      .user = static_cast<std::uint32_t>(random() % 5)});
    }
    const Trace trace = trace_of(jobs);
    Options options = on({.cpus = 8});
    options.policy.fair_share = false;
    options.policy.backfill = false;
    const Outcome outcome = simulate(trace, options);
    const auto expected = naive_starts_ms(trace, 8000);
    std::uint64_t refused = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(outcome.jobs[i].start_ms, expected[i]) << "seed " << seed << ", job " << i;
      refused += expected[i] < 0 ? 1 : 0;
    }
    ASSERT_GT(refused, 0u);
    EXPECT_EQ(
        outcome.refusals,
        (std::map<std::string, std::uint64_t>{{"asks for 9 CPUs; this machine has 8", refused}}));
  }
}

// Two CPUs. The first takes one for 100 s, the second wants both for 50 s and so waits until 100.
// The third, one CPU for 50 s, fits beside the first and ends before the second can start.
//   with backfill:    0–100, 100–150, 0–50    used 100 + 100 + 50 = 250 of 2 · 150
//   without:          0–100, 100–150, 150–200 used 250 of 2 · 200
TEST(Simulate, BackfillLetsPassWhoDelaysNobody) {
  const Trace trace = trace_of({{.run_s = 100, .cpus = 1, .limit_s = 100},
                                {.run_s = 50, .cpus = 2, .limit_s = 50},
                                {.run_s = 50, .cpus = 1, .limit_s = 50}});
  Options options = on({.cpus = 2});
  options.policy.fair_share = false;
  Outcome outcome = simulate(trace, options);
  EXPECT_EQ(starts_s(outcome), (std::vector<std::int64_t>{0, 100, 0}));
  EXPECT_DOUBLE_EQ(*measure(trace, options, outcome).cpu_used, 250.0 / 300);
  options.policy.backfill = false;
  outcome = simulate(trace, options);
  EXPECT_EQ(starts_s(outcome), (std::vector<std::int64_t>{0, 100, 150}));
  EXPECT_DOUBLE_EQ(*measure(trace, options, outcome).cpu_used, 250.0 / 400);
}

// The third is as long as in the test before, but its limit says 200 s: it must wait. Exact limits
// let it pass again.
TEST(Simulate, LimitsAreWhatBackfillKnows) {
  const Trace trace = trace_of({{.run_s = 100, .cpus = 1, .limit_s = 100},
                                {.run_s = 50, .cpus = 2, .limit_s = 50},
                                {.run_s = 50, .cpus = 1, .limit_s = 200}});
  Options options = on({.cpus = 2});
  options.policy.fair_share = false;
  EXPECT_EQ(starts_s(simulate(trace, options)), (std::vector<std::int64_t>{0, 100, 150}));
  options.limits = Limits::exact;
  EXPECT_EQ(starts_s(simulate(trace, options)), (std::vector<std::int64_t>{0, 100, 0}));
}

TEST(Simulate, AJobEndsAtItsLimit) {
  const Trace trace = trace_of({{.run_s = 100, .cpus = 1, .limit_s = 60}, {.run_s = 1, .cpus = 1}});
  Options options = on({.cpus = 1});
  const Outcome outcome = simulate(trace, options);
  EXPECT_EQ(ends_s(outcome), (std::vector<std::int64_t>{60, 61}));
  EXPECT_EQ(outcome.jobs[0].state, JobState::at_limit);
  EXPECT_EQ(measure(trace, options, outcome).at_limit, 1u);
  options.limits = Limits::none;
  EXPECT_EQ(ends_s(simulate(trace, options)), (std::vector<std::int64_t>{100, 101}));
}

// One GPU. A job of 100 s starts at 0; at 10 one of a higher priority comes for 20 s.
//   as they are:        0–100; 100–120
//   preemptible:        0–10, 30–130 (10 s are done again); 10–30
//   5 s grace, resume:  0–15, 35–120 (85 s were left); 15–35
TEST(Simulate, PreemptedJobsRunAgain) {
  const Trace trace = trace_of({{.run_s = 100, .gpu_milli = 1000},
                                {.submit_s = 10, .run_s = 20, .gpu_milli = 1000, .priority = 1}});
  Options options = on({.gpus = 1});
  EXPECT_EQ(ends_s(simulate(trace, options)), (std::vector<std::int64_t>{100, 120}));
  options.preemptible = true;
  Outcome outcome = simulate(trace, options);
  EXPECT_EQ(ends_s(outcome), (std::vector<std::int64_t>{130, 30}));
  Measures measures = measure(trace, options, outcome);
  EXPECT_EQ(measures.preemptions, 1u);
  EXPECT_DOUBLE_EQ(measures.lost_s, 10);
  EXPECT_DOUBLE_EQ(measures.slowdown.max, 1.3);  // 130 s there, 100 s to run
  EXPECT_DOUBLE_EQ(*measures.gpu_used, 1);       // what was lost was used, too
  options.grace_ms = 5 * kSecond;
  options.resume = true;
  outcome = simulate(trace, options);
  EXPECT_EQ(ends_s(outcome), (std::vector<std::int64_t>{120, 35}));
  measures = measure(trace, options, outcome);
  EXPECT_DOUBLE_EQ(measures.lost_s, 0);
}

// Within its grace the first ends by itself: nothing is done again.
TEST(Simulate, AJobThatEndsWithinItsGraceWasNotPreempted) {
  const Trace trace = trace_of({{.run_s = 100, .gpu_milli = 1000},
                                {.submit_s = 98, .run_s = 20, .gpu_milli = 1000, .priority = 1}});
  Options options = on({.gpus = 1});
  options.preemptible = true;
  options.grace_ms = 5 * kSecond;
  const Outcome outcome = simulate(trace, options);
  EXPECT_EQ(ends_s(outcome), (std::vector<std::int64_t>{100, 120}));
  EXPECT_EQ(outcome.jobs[0].preemptions, 0u);
}

// Four jobs of half a GPU, 10 s each, on one: whole ones go one after the other, halves in pairs.
TEST(Simulate, PartsOfAGpuAreSharedWhereTheMachineDoes) {
  const Trace trace = trace_of(std::vector<Asked>(4, {.run_s = 10, .gpu_milli = 500}));
  Options options = on({.gpus = 1});
  EXPECT_EQ(starts_s(simulate(trace, options)), (std::vector<std::int64_t>{0, 10, 20, 30}));
  options.machine.devices[0].sharing = {sched::SharingMode::enforced, 2};
  const Outcome outcome = simulate(trace, options);
  EXPECT_EQ(starts_s(outcome), (std::vector<std::int64_t>{0, 0, 10, 10}));
  EXPECT_DOUBLE_EQ(*measure(trace, options, outcome).gpu_used, 1);
}

// a queues four jobs, then b one: it goes before those of a that still wait, for a has had more.
TEST(Simulate, FairShareAndQuotasAreThePolicys) {
  std::vector<Asked> jobs(4, {.run_s = 10, .cpus = 1});
  jobs.push_back({.submit_s = 1, .run_s = 10, .cpus = 1, .user = 1});
  const Trace trace = trace_of(jobs);
  Options options = on({.cpus = 1});
  EXPECT_EQ(starts_s(simulate(trace, options)), (std::vector<std::int64_t>{0, 20, 30, 40, 10}));
  options.policy.fair_share = false;
  EXPECT_EQ(starts_s(simulate(trace, options)), (std::vector<std::int64_t>{0, 10, 20, 30, 40}));
  options = on({.cpus = 4});  // enough for all, but a may run one at a time
  options.policy.users["a"].quota = sched::Quota{.running = 1};
  EXPECT_EQ(starts_s(simulate(trace, options)), (std::vector<std::int64_t>{0, 10, 20, 30, 1}));
}

TEST(Simulate, JobsWithoutDurationTakeNoTime) {
  const Trace trace = trace_of(std::vector<Asked>(1000, {.submit_s = 0, .cpus = 1}));
  const Options options = on({.cpus = 1});
  const Outcome outcome = simulate(trace, options);
  const Measures measures = measure(trace, options, outcome);
  EXPECT_EQ(measures.finished, 1000u);
  EXPECT_DOUBLE_EQ(measures.wait_s.max, 0);
  EXPECT_DOUBLE_EQ(measures.slowdown.mean, 1);
  EXPECT_DOUBLE_EQ(*measures.cpu_used, 0);
}

TEST(Measures, Spread) {
  EXPECT_DOUBLE_EQ(spread_of({}).max, 0);
  const Spread spread = spread_of({4, 1, 3, 2});
  EXPECT_DOUBLE_EQ(spread.mean, 2.5);
  EXPECT_DOUBLE_EQ(spread.median, 2);
  EXPECT_DOUBLE_EQ(spread.p95, 4);
}

TEST(Measures, JainsIndex) {
  EXPECT_DOUBLE_EQ(jain_index({}), 1);
  EXPECT_DOUBLE_EQ(jain_index({3, 3, 3, 3}), 1);
  EXPECT_DOUBLE_EQ(jain_index({5, 0, 0, 0}), 0.25);
  EXPECT_DOUBLE_EQ(jain_index({1, 3}), 0.8);  // 16 / (2 · 10)
}

// a waits 0, b 20 s of its 10: slowdowns 1 and 3, as in the line before.
TEST(Measures, FairnessIsOfUsersMeanSlowdowns) {
  const Trace trace = trace_of({{.run_s = 20, .cpus = 1}, {.run_s = 10, .cpus = 1, .user = 1}});
  const Options options = on({.cpus = 1});
  const Measures measures = measure(trace, options, simulate(trace, options));
  EXPECT_DOUBLE_EQ(measures.fairness, 0.8);
  ASSERT_EQ(measures.users.size(), 2u);
  EXPECT_EQ(measures.users[1].user, "b");
  EXPECT_DOUBLE_EQ(measures.users[1].wait_s, 20);
  EXPECT_DOUBLE_EQ(measures.users[1].slowdown, 3);
}

}  // namespace
}  // namespace loam::sim
