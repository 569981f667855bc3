// A trace played against the scheduler that a node runs: the same code, a clock of its own. Jobs
// come when the trace says, run as long as it says, and end; everything between is sched/.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "sched/sched.h"
#include "sim/trace.h"

namespace loam::sim {

enum class Limits {
  recorded,  // the trace's
  exact,     // each job's own run time: what a perfect guess would give
  none,
};

struct Options {
  sched::Machine machine;
  sched::Policy policy;
  std::map<std::string, std::string> accounts;  // of users whose jobs name none
  Limits limits = Limits::recorded;
  bool preemptible = false;  // every job; else those that the trace says
  bool resume = false;       // who was preempted goes on where it was; else from its start
  std::int64_t grace_ms = 0;
  bool memory = false;  // jobs ask for it
  std::function<void(std::size_t ended, std::size_t jobs)> progress;
};

enum class JobState { waiting, refused, finished, at_limit };

struct JobOutcome {
  JobState state = JobState::waiting;
  std::int64_t start_ms = -1;  // its first
  std::int64_t end_ms = -1;
  std::int64_t worked_ms = 0;  // on the machine, all tries together
  std::int64_t lost_ms = 0;    // of that, done again after a preemption
  std::uint32_t preemptions = 0;
  std::uint64_t gpu_milli = 0;  // that it held while it ran: a whole one where none is shared
};

struct Outcome {
  std::vector<JobOutcome> jobs;                   // as in the trace
  std::map<std::string, std::uint64_t> refusals;  // why → jobs
  std::vector<float> decisions_us;  // processor time of each event's decision, as they came
  std::size_t waiting_most = 0;
};

Outcome simulate(const Trace& trace, const Options& options);

}  // namespace loam::sim
