#include "sched/plan.h"

#include <algorithm>
#include <utility>

#include "base/result.h"
#include "sched/quota.h"

namespace loam::sched {

Plan::Plan(const State& state, Time now)
    : state_(state), now_(now), verdicts_(state.waiting.classes()) {
  begin();
}

void Plan::begin() {
  profile_.begin(now_, state_.free);
  for (const auto& [ends, claim, task, index] : state_.ends)
    profile_.release(planned_end(now_, ends), state_.holdings[index].returns);
}

void Plan::renew() {
  begin();
  ++version_;
  for (ClassVerdict& verdict : verdicts_) verdict.now = Verdict::unknown;
  for (const Promise& promise : std::exchange(promises_, {})) (void)this->promise(promise.slot);
}

std::optional<Time> Plan::earliest(const Entry& entry) const {
  return profile_.earliest(entry.need, entry.claim.time_limit_ms);
}

bool Plan::fits_now(const Entry& entry) const {
  return profile_.fits_now(entry.need, entry.claim.time_limit_ms);
}

bool Plan::passed_over(FairShare::Index association, ClassId id, bool now) {
  const ClassFloor& floor = state_.waiting.floor(id);
  if (!quota_leaves(state_, association, floor.need, floor.pieces)) return true;
  ClassVerdict& verdict = verdicts_[id];
  const auto verdict_of = [](bool fits) {
    return fits ? Verdict::worth_a_look : Verdict::passed_over;
  };
  if (verdict.possible == Verdict::unknown)
    verdict.possible = verdict_of(fits(floor.need, state_.usable));
  if (verdict.possible == Verdict::passed_over) return true;
  if (!now) return false;
  // What is free only becomes less while claims are granted and promised.
  if (verdict.now != Verdict::passed_over && verdict.version != version_) {
    verdict.version = version_;
    verdict.now = verdict_of(profile_.fits_now(floor.need, floor.limit_ms));
  }
  return verdict.now == Verdict::passed_over;
}

std::vector<ClassId> Plan::startable() const {
  auto classes = state_.waiting.classes_within(state_.free[kCpu], state_.free[kMemory]);
  std::erase_if(classes, [&](ClassId id) {
    const ClassFloor& floor = state_.waiting.floor(id);
    return !profile_.fits_now(floor.need, floor.limit_ms);
  });
  return classes;
}

Vector Plan::take(const Entry& entry, Time start) {
  const Time end = profile_.end_of(start, entry.claim.time_limit_ms);
  Vector least = profile_.least(start, end), taken(least.size(), 0);
  LOAM_ASSERT(sched::take(entry.need, least, taken));
  profile_.take(start, end, taken);
  ++version_;
  return taken;
}

Vector Plan::take_now(const Entry& entry) { return take(entry, now_); }

Vector Plan::withhold(const Entry& entry) {
  const Time from = profile_.end_of(now_, std::max<std::int64_t>(state_.policy.fill_limit_ms, 1));
  Vector least = profile_.least(from, kForever), taken(least.size(), 0);
  for (auto& amount : least) amount = std::max<std::int64_t>(amount, 0);
  Need need = entry.need;
  need.cpu_milli = std::min(need.cpu_milli, least[kCpu]);
  need.memory_bytes = std::min(need.memory_bytes, least[kMemory]);
  (void)sched::take(need, least, taken);  // as many devices as there are
  profile_.take(from, kForever, taken);
  ++version_;
  return taken;
}

std::int64_t Plan::promise(Slot slot) {
  const Entry& entry = state_.entries[slot];
  const std::optional<Time> start = earliest(entry);
  promises_.push_back({slot, start});
  return state_.layout.rate_of(start ? take(entry, *start) : withhold(entry));
}

std::vector<Reservation> Plan::reservations() const {
  std::vector<Reservation> list;
  // What victims leave may let one that was promised a start do so at once.
  for (const Promise& promise : promises_)
    if (state_.entries[promise.slot].queued)
      list.push_back({state_.entries[promise.slot].claim.id, promise.start});
  return list;
}

}  // namespace loam::sched
