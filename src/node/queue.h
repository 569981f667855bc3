// The scheduler's glue: claims of jobs (steps, replicas, commands) → sched::State → grants. In
// memory; rebuilt at start from the jobs that the database holds open.
#pragma once

#include <functional>
#include <string>

#include "node/supervisor.h"
#include "sched/sched.h"

namespace loam::node {

class Queue {
 public:
  Queue(const sched::Amount& total, std::function<void(JobId)> on_granted);

  std::string refusal(const sched::Amount& amount) const;  // "" where it can fit an empty machine
  // A claim with this id exists already, or never fits: a bug (assert).
  void submit(JobId job, const sched::Amount& amount);  // on_granted is called from within or later
  void adopt(JobId job, const sched::Amount& amount);   // running since before this node
  void release(JobId job);                              // ended or cancelled; idempotent
  std::string explain(JobId job) const;                 // why it waits, "" when granted or unknown
  bool contains(JobId job) const;                       // waiting or granted
  const sched::State& state() const { return state_; }  // totals and use, to be shown

 private:
  void apply(const sched::Actions& actions);
  sched::State state_;
  std::function<void(JobId)> on_granted_;
};

}  // namespace loam::node
