// Who runs next on this machine. Pure: state and one event in, actions out; no clock, no I/O, no
// unordered iteration; what decides an order is integers.
//
//   event ─ state ─ decide: in order (priority, fair share, arrival)
//                     fits now and delays nobody ahead  → grant
//                     else, among the first             → reservation; perhaps victims → preempt
//
// Order: higher priority first; within one priority the account, then the user, that has held least
// for its shares; then arrival. Backfill is conservative: the first kReservations claims that
// cannot start get a reservation from the limits of what runs, and nobody behind may delay one; a
// claim without a limit is never assumed to end. docs/queue.md has it for people.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sched/claim.h"
#include "sched/explain.h"
#include "sched/machine.h"
#include "sched/policy.h"
#include "sched/state.h"

namespace loam::sched {

struct Action {
  enum class Kind {
    grant,    // start `task` of `claim` at `placement`
    preempt,  // end `task` of `claim`, for `beneficiary`; then task_requeued (or released)
    wake_at,  // call on_time at `time`: a decision was cut short
  } kind = Kind::grant;
  ClaimId claim = 0;
  TaskId task = 0;
  Placement placement;
  ClaimId beneficiary = 0;
  Time time = 0;
};
using Actions = std::vector<Action>;

State make_state(Machine machine, Policy policy = {});

// "" where the claim can run on this machine when it is empty; else what there is: "asks for 64 CPUs;
// this machine has 2".
std::string refusal(const State& state, const Claim& claim);

struct QueueRefusal {
  std::string text;    // "anna has 3 of at most 3 claims in the queue"
  bool never = false;  // also when nothing waits
};
// Whether the quotas of the claim's user and account let `more` claims wait beside those that do.
std::optional<QueueRefusal> queue_refusal(const State& state, const Claim& claim,
                                          std::int64_t more);

// The claim is new, refusal() is "" for it, and queue_refusal() nothing.
void on_submitted(State& state, const Claim& claim, Time now, Actions& actions);
// A task found running at the node's start: counted, never granted again. The claim's first one
// brings the claim; what an array has left then waits.
struct Running {
  TaskId task = 0;
  Placement placement;
  Time started = 0;
};
void on_adopted(State& state, const Claim& claim, const Running& running, Time now);
// The claim is over, waiting or running, with all its tasks. Unknown: nothing.
void on_released(State& state, ClaimId id, Time now, Actions& actions);
// One task has ended for good; with the last one the claim is over.
void on_task_ended(State& state, ClaimId id, TaskId task, Time now, Actions& actions);
// One task has ended and waits again, in its claim's place: preempted, lost.
void on_task_requeued(State& state, ClaimId id, TaskId task, Time now, Actions& actions);
void on_held(State& state, ClaimId id, Time now, Actions& actions);
void on_unheld(State& state, ClaimId id, Time now, Actions& actions);
void on_priority_changed(State& state, ClaimId id, std::int32_t priority, Time now,
                         Actions& actions);
void on_limit_changed(State& state, ClaimId id, std::int64_t time_limit_ms, Time now,
                      Actions& actions);
void on_device_changed(State& state, const std::string& device, DeviceState device_state,
                       const std::string& reason, Time now, Actions& actions);
// Another machine (slices made, CPUs gone); what runs keeps what is still there.
void on_machine_changed(State& state, Machine machine, Time now, Actions& actions);
void on_policy_changed(State& state, Policy policy, Time now, Actions& actions);
void on_time(State& state, Time now, Actions& actions);
// Nothing is granted, and nobody preempted, until `why` is "" again. Said again and again: nothing.
void on_paused(State& state, const std::string& why, Time now, Actions& actions);

// What holding `placement` for the claim counts an hour, in thousandths of points.
std::int64_t rate_of(const State& state, const Claim& claim, const Placement& placement);
// What a user had used, from a row that FairShare::rows gave at that moment or was decayed to it.
void restore_usage(State& state, const UsageRow& row, Time now);

// CPUs that no claim has for itself: where claims that are not pinned run.
std::vector<std::uint32_t> shared_cpus(const State& state);
const Placement* placement_of(const State& state, ClaimId id, TaskId task = 0);

// "" or the first invariant that does not hold. For tests: after every event.
std::string insane(const State& state, Time now);
inline bool sane(const State& state, Time now) { return insane(state, now).empty(); }

}  // namespace loam::sched
