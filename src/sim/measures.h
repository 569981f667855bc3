// What a simulated workload came to, in the field's measures (definitions: docs/simulation.md).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sim/simulate.h"

namespace loam::sim {

// Bounded slowdown (Feitelson, "Metrics for Parallel Job Scheduling and Their Convergence", 2001):
// shorter jobs than this count as this long.
inline constexpr double kSlowdownBoundS = 10;

struct Spread {
  double mean = 0, median = 0, p95 = 0, max = 0;  // percentiles: nearest rank
};
Spread spread_of(std::vector<double> values);
// (Σx)² / (n Σx²), from 1/n (one has everything) to 1 (all have the same); Jain, Chiu, Hawe 1984.
double jain_index(const std::vector<double>& values);

// From submission to end, over what it had to run, but at least kSlowdownBoundS; never under 1.
double slowdown_of(const Job& job, const JobOutcome& outcome);

struct UserMeasures {
  std::string user;
  std::uint64_t jobs = 0;  // that ran
  double wait_s = 0;       // means
  double slowdown = 0;
  double cpu_hours = 0, gpu_hours = 0;
};

struct Measures {
  std::uint64_t finished = 0, at_limit = 0, refused = 0, waiting = 0;
  double span_s = 0;  // from the first submission to the last end
  Spread wait_s, slowdown;
  std::optional<double> cpu_used, gpu_used, memory_used;  // parts of the machine × span
  double fairness = 1;              // Jain's index of users' mean bounded slowdowns
  std::vector<UserMeasures> users;  // by name
  std::uint64_t preemptions = 0, preempted_jobs = 0;
  double lost_s = 0;
  struct Decisions {
    std::uint64_t count = 0;
    double p50_us = 0, p99_us = 0, max_us = 0;
  } decisions;
};

Measures measure(const Trace& trace, const Options& options, const Outcome& outcome);

}  // namespace loam::sim
