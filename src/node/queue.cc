#include "node/queue.h"

#include <utility>

namespace loam::node {

Queue::Queue(const sched::Amount& total, std::function<void(JobId)> on_granted)
    : on_granted_(std::move(on_granted)) {
  state_.total = total;
}

std::string Queue::refusal(const sched::Amount& amount) const {
  return sched::refusal(state_, amount);
}

void Queue::submit(JobId job, const sched::Amount& amount) {
  sched::Actions actions;
  sched::on_submitted(state_, {static_cast<sched::ClaimId>(job), amount}, actions);
  apply(actions);
}

void Queue::adopt(JobId job, const sched::Amount& amount) {
  sched::on_adopted(state_, {static_cast<sched::ClaimId>(job), amount});
}

void Queue::release(JobId job) {
  sched::Actions actions;
  sched::on_released(state_, static_cast<sched::ClaimId>(job), actions);
  apply(actions);
}

std::string Queue::explain(JobId job) const {
  return sched::explain(state_, static_cast<sched::ClaimId>(job));
}

bool Queue::contains(JobId job) const {
  return state_.claims.contains(static_cast<sched::ClaimId>(job));
}

// The state is consistent before the first callback runs: one may submit or release again.
void Queue::apply(const sched::Actions& actions) {
  for (const sched::Action& action : actions) {
    const auto found = state_.claims.find(action.claim);
    // A callback before this one may have released it already.
    if (found != state_.claims.end() && found->second.state == sched::ClaimState::granted)
      on_granted_(static_cast<JobId>(action.claim));
  }
}

}  // namespace loam::node
