// The scheduler's glue: claims of jobs (steps, replicas, commands) → sched::State → grants. In
// memory; rebuilt at start from the jobs that the database holds open.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "node/supervisor.h"
#include "sched/sched.h"

namespace loam::node {

class Queue {
 public:
  struct Events {
    // Called from within submit, release and the like, or later. The state is consistent by then:
    // they may submit and release again.
    std::function<void(JobId, sched::TaskId, const sched::Placement&)> on_granted;
    // `victim` is to end for `beneficiary`; requeue() when it has.
    std::function<void(JobId victim, sched::TaskId, JobId beneficiary)> on_preempt;
    std::function<void()> on_unfinished;  // call on_time() soon: a decision was cut short
    // Asked before anything is decided: "" where starts are possible, else why not, for people.
    // While something waits for that alone, on_paused: call on_time() after a while.
    std::function<std::string()> why_paused = {};
    std::function<void()> on_paused = {};
  };
  // `now_ms`: never runs backwards; shown to people as the time of day.
  Queue(sched::Machine machine, sched::Policy policy, Events events,
        std::function<std::int64_t()> now_ms);

  // "" where it can run on the empty machine.
  std::string refusal(const sched::Claim& claim) const;
  // Why `more` claims of its user and account may not be queued beside those that wait; none: they may.
  std::optional<sched::QueueRefusal> queue_refusal(const sched::Claim& claim,
                                                   std::int64_t more) const;
  // A claim with this id exists already, or is refused: a bug (assert).
  void submit(const sched::Claim& claim);
  // Running since before this node.
  void adopt(const sched::Claim& claim, const sched::Running& running);
  void release(JobId job);  // ended or cancelled, with all its tasks; idempotent
  void requeue(JobId job, sched::TaskId task = 0);  // preempted or lost: waits in its old place
  void set_held(JobId job, bool held);
  void set_device(const std::string& device, sched::DeviceState state, const std::string& reason);
  void set_machine(sched::Machine machine);  // what this machine gives changed
  void set_policy(sched::Policy policy);
  void on_time();
  // What holding `placement` for the claim counts an hour (sched/usage.h).
  std::int64_t rate_of(const sched::Claim& claim, const sched::Placement& placement) const;
  // Held before this node, or before it knew of it.
  void restore_usage(const std::string& account, const std::string& user,
                     const sched::HeldSpan& span);

  // Why it waits; made for one job, or once for a whole list.
  static constexpr std::size_t kLookAhead = 200;
  sched::Outlook look_ahead(std::size_t depth = kLookAhead) const;
  sched::Explanation explain(JobId job, const sched::Outlook& outlook) const;
  bool contains(JobId job) const;  // waiting or granted
  const sched::Placement* placement(JobId job, sched::TaskId task = 0) const;
  const sched::State& state() const { return state_; }  // to be shown
  std::int64_t now_ms() const { return now_ms_(); }

 private:
  template <class Event>
  void happen(const Event& event);
  sched::State state_;
  Events events_;
  std::function<std::int64_t()> now_ms_;
};

// The time of day at this call, and from then on what a clock that never jumps adds to it.
std::function<std::int64_t()> steady_time_of_day();

}  // namespace loam::node
