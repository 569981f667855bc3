#include "node/queue.h"

#include <utility>

#include "base/clock.h"

namespace loam::node {
namespace {

sched::ClaimId id_of(JobId job) { return static_cast<sched::ClaimId>(job); }

}  // namespace

Queue::Queue(sched::Machine machine, sched::Policy policy, Events events,
             std::function<std::int64_t()> now_ms)
    : state_(sched::make_state(std::move(machine), std::move(policy))),
      events_(std::move(events)),
      now_ms_(std::move(now_ms)) {}

std::string Queue::refusal(const sched::Claim& claim) const {
  return sched::refusal(state_, claim);
}

std::optional<sched::QueueRefusal> Queue::queue_refusal(const sched::Claim& claim,
                                                        std::int64_t more) const {
  return sched::queue_refusal(state_, claim, more);
}

// The state is consistent before the first callback runs: one may submit or release again.
template <class Event>
void Queue::happen(const Event& event) {
  sched::Actions actions;
  if (events_.why_paused) sched::on_paused(state_, events_.why_paused(), now_ms_(), actions);
  event(now_ms_(), actions);
  if (!state_.paused.empty() && state_.waiting.size() > 0 && events_.on_paused)
    events_.on_paused();
  for (const sched::Action& action : actions) {
    const auto job = static_cast<JobId>(action.claim);
    if (action.kind == sched::Action::Kind::wake_at) {
      events_.on_unfinished();
      continue;
    }
    // A callback before this one may have released it already.
    const sched::Placement* placement = sched::placement_of(state_, action.claim, action.task);
    if (placement == nullptr) continue;
    if (action.kind == sched::Action::Kind::grant)
      events_.on_granted(job, action.task, action.placement);
    else
      events_.on_preempt(job, action.task, static_cast<JobId>(action.beneficiary));
  }
}

void Queue::submit(const sched::Claim& claim) {
  happen([&](auto now, auto& actions) { sched::on_submitted(state_, claim, now, actions); });
}

void Queue::adopt(const sched::Claim& claim, const sched::Running& running) {
  sched::on_adopted(state_, claim, running, now_ms_());
}

void Queue::release(JobId job) {
  happen([&](auto now, auto& actions) { sched::on_released(state_, id_of(job), now, actions); });
}

void Queue::requeue(JobId job, sched::TaskId task) {
  happen([&](auto now, auto& actions) {
    sched::on_task_requeued(state_, id_of(job), task, now, actions);
  });
}

void Queue::set_held(JobId job, bool held) {
  happen([&](auto now, auto& actions) {
    held ? sched::on_held(state_, id_of(job), now, actions)
         : sched::on_unheld(state_, id_of(job), now, actions);
  });
}

void Queue::set_device(const std::string& device, sched::DeviceState device_state,
                       const std::string& reason) {
  happen([&](auto now, auto& actions) {
    sched::on_device_changed(state_, device, device_state, reason, now, actions);
  });
}

void Queue::set_machine(sched::Machine machine) {
  happen([&](auto now, auto& actions) {
    sched::on_machine_changed(state_, std::move(machine), now, actions);
  });
}

void Queue::set_policy(sched::Policy policy) {
  happen([&](auto now, auto& actions) {
    sched::on_policy_changed(state_, std::move(policy), now, actions);
  });
}

void Queue::on_time() {
  happen([&](auto now, auto& actions) { sched::on_time(state_, now, actions); });
}

std::int64_t Queue::rate_of(const sched::Claim& claim, const sched::Placement& placement) const {
  return sched::rate_of(state_, claim, placement);
}

void Queue::restore_usage(const std::string& account, const std::string& user,
                          const sched::HeldSpan& span) {
  const std::int64_t now = now_ms_();
  const std::int64_t amount = sched::amount_left(span, state_.policy.half_life_ms, now);
  if (amount > 0) sched::restore_usage(state_, {account, user, amount}, now);
}

sched::Outlook Queue::look_ahead(std::size_t depth) const {
  return sched::look_ahead(state_, now_ms_(), depth);
}

sched::Explanation Queue::explain(JobId job, const sched::Outlook& outlook) const {
  return sched::explain(state_, id_of(job), outlook);
}

bool Queue::contains(JobId job) const { return state_.slots.contains(id_of(job)); }

const sched::Placement* Queue::placement(JobId job, sched::TaskId task) const {
  return sched::placement_of(state_, id_of(job), task);
}

std::function<std::int64_t()> steady_time_of_day() {
  return [wall = wall_ms(), since = boottime_ns()] {
    return wall + (boottime_ns() - since) / 1'000'000;
  };
}

}  // namespace loam::node
