#include "sched/preempt.h"

#include <algorithm>

namespace loam::sched {
namespace {

void add(Vector& to, const Vector& amounts, std::int64_t sign) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += sign * amounts[i];
}

// Whether it gives back anything that is short.
bool helps(const Need& need, const Vector& free, const Vector& returns) {
  if (need.cpu_milli > free[kCpu] && returns[kCpu] > 0) return true;
  if (need.memory_bytes > free[kMemory] && returns[kMemory] > 0) return true;
  return std::any_of(need.devices.begin(), need.devices.end(), [&](const DeviceNeed& device) {
    return std::any_of(device.choices.begin(), device.choices.end(),
                       [&](const Choice& choice) { return returns[choice.column] > 0; });
  });
}

// The last of those whose grace already runs: what they leave is counted as soon free.
Time end_of_running_graces(const State& state, Time now) {
  Time latest = now;
  for (const auto& [ends, claim, task, index] : state.ends)
    if (state.holdings[index].preempted) latest = std::max(latest, ends);
  return latest;
}

}  // namespace

Victims choose_victims(const State& state, const Profile& profile, const Entry& entry,
                       std::optional<Time> start, Time now) {
  if (state.victims.empty() || std::get<0>(*state.victims.begin()) >= entry.claim.priority)
    return {};
  const Time graces = planned_end(now, end_of_running_graces(state, now));
  if (start && *start <= graces) return {};
  Vector free = profile.least(graces, graces + 1);
  std::vector<std::uint32_t> candidates;
  for (const auto& [priority, newest, claim, task, index] : state.victims) {
    if (priority >= entry.claim.priority) break;
    const Holding& holding = state.holdings[index];
    // Who came back while the other still waits does so in a gap; it would only go to and fro.
    if (state.entries[holding.entry].went_for.contains(entry.claim.id)) continue;
    if (helps(entry.need, free, holding.returns)) candidates.push_back(index);
  }
  std::vector<std::uint32_t> chosen;
  const auto one_suffices = [&](std::uint32_t index) {
    Vector with = free;
    add(with, state.holdings[index].returns, 1);
    return fits(entry.need, with);
  };
  if (const auto one = std::find_if(candidates.begin(), candidates.end(), one_suffices);
      one != candidates.end()) {
    chosen = {*one};
  } else {
    Vector with = free;
    for (const std::uint32_t index : candidates) {
      if (fits(entry.need, with)) break;
      add(with, state.holdings[index].returns, 1);
      chosen.push_back(index);
    }
    if (!fits(entry.need, with)) return {};
    // Who lost most is spared first.
    for (auto index = chosen.rbegin(); index != chosen.rend();) {
      add(with, state.holdings[*index].returns, -1);
      if (fits(entry.need, with)) {
        index = std::make_reverse_iterator(chosen.erase(std::next(index).base()));
      } else {
        add(with, state.holdings[*index].returns, 1);
        ++index;
      }
    }
  }
  Victims result{.victims = std::move(chosen), .soon = graces};
  for (const std::uint32_t index : result.victims)
    result.soon =
        std::max(result.soon,
                 planned_end(now, now + state.entries[state.holdings[index].entry].claim.grace_ms));
  if (start && *start <= result.soon) return {};  // it starts as soon without
  // With what was promised to those ahead, and for as long as it runs.
  Profile then = profile;
  for (const std::uint32_t index : result.victims)
    then.give(result.soon, std::max(state.holdings[index].ends, result.soon),
              state.holdings[index].returns);
  const auto earliest = then.earliest(entry.need, entry.claim.time_limit_ms);
  if (!earliest || *earliest > result.soon) return {};
  return result;
}

}  // namespace loam::sched
