#include "gateway/scaling.h"

#include <algorithm>

namespace loam::gateway {
namespace {

constexpr std::int64_t kGrowAfterNs = std::chrono::nanoseconds(kGrowAfter).count();
constexpr std::int64_t kShrinkAfterNs = std::chrono::nanoseconds(kShrinkAfter).count();

}  // namespace

Scaling::Scaling(const api::ScalePlan& plan, std::int64_t now_ns)
    : min_(plan.min), max_(plan.max), wanted_(plan.wanted) {
  set_limits(plan, now_ns);
  helped_ns_ = now_ns;
  needed(wanted_, now_ns);
}

void Scaling::set_limits(const api::ScalePlan& plan, std::int64_t now_ns) {
  min_ = plan.min;
  max_ = plan.max;
  wanted_ = std::clamp(wanted_, min_, max_);
  needed_ns_.resize(max_, now_ns);
}

void Scaling::needed(std::size_t replicas, std::int64_t now_ns) {
  const std::size_t count = std::min(replicas, needed_ns_.size());
  std::fill_n(needed_ns_.begin(), count, now_ns);
}

Scaling::Decision Scaling::look(const Load& load, std::int64_t now_ns) {
  if (load.serving > last_.serving) helped_ns_ = now_ns;
  needed(std::max(load.busy, last_.busy), now_ns);  // until now as many were busy
  last_ = load;
  Decision decision;
  decision.look_again_ns = grow(load, now_ns);
  while (wanted_ > min_ && now_ns - needed_ns_[wanted_ - 1] >= kShrinkAfterNs) --wanted_;
  decision.wanted = wanted_;
  if (wanted_ > min_ && load.busy < wanted_) {
    const std::int64_t shrinks_ns = needed_ns_[wanted_ - 1] + kShrinkAfterNs;
    if (decision.look_again_ns == 0 || shrinks_ns < decision.look_again_ns)
      decision.look_again_ns = shrinks_ns;
  }
  return decision;
}

// When to look again whether one more is wanted. One that is wanted and not there yet, because it
// starts or the machine is full, stays wanted for as long as requests wait for it.
std::int64_t Scaling::grow(const Load& load, std::int64_t now_ns) {
  const bool short_of = load.waiting_since_ns != 0 && load.serving > 0 && load.busy >= load.serving;
  if (!short_of) return 0;
  const std::int64_t due_ns = std::max(load.waiting_since_ns, helped_ns_) + kGrowAfterNs;
  if (now_ns < due_ns) return load.serving < max_ ? due_ns : 0;
  if (load.serving >= wanted_ && wanted_ < max_) {
    ++wanted_;
    helped_ns_ = now_ns;
  }
  needed(wanted_, now_ns);
  return 0;
}

}  // namespace loam::gateway
