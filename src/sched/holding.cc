#include "sched/holding.h"

#include <algorithm>

#include "base/result.h"
#include "sched/quota.h"

namespace loam::sched {
namespace {

void book(State& state, const Entry& entry, const Holding& holding, std::int64_t sign) {
  const FairShare& fair = state.fair_share;
  for (Held* held : {&state.users[fair.user_of(entry.place.association)],
                     &state.accounts[fair.account_of(entry.place.association)]}) {
    held->cpu_milli += sign * holding.taken[kCpu];
    held->memory_bytes += sign * holding.taken[kMemory];
    held->running += sign;
    for (std::size_t kind = 0; kind < holding.pieces.size(); ++kind)
      held->pieces[kind] += sign * holding.pieces[kind];
  }
}

void count_queued(State& state, const Entry& entry, std::int64_t by) {
  const FairShare& fair = state.fair_share;
  state.users[fair.user_of(entry.place.association)].queued += by;
  state.accounts[fair.account_of(entry.place.association)].queued += by;
}

// Only what was adopted can be too much; it never becomes more by what is granted.
void look_at_commitment(State& state) {
  state.overcommitted = std::any_of(state.free.begin(), state.free.end(),
                                    [](std::int64_t amount) { return amount < 0; });
  for (std::size_t i = 0; i < state.parts_used.size(); ++i)
    if (state.parts_used[i] > state.machine.devices[i].sharing.parts) state.overcommitted = true;
}

std::uint32_t new_holding(State& state) {
  if (state.unused_holdings.empty()) {
    state.holdings.emplace_back();
    return static_cast<std::uint32_t>(state.holdings.size() - 1);
  }
  const std::uint32_t index = state.unused_holdings.back();
  state.unused_holdings.pop_back();
  return index;
}

}  // namespace

void unlist(State& state, std::uint32_t index) {
  const Holding& holding = state.holdings[index];
  const Claim& claim = state.entries[holding.entry].claim;
  state.ends.erase({holding.ends, holding.claim, holding.task, index});
  state.victims.erase({claim.priority, -holding.started, holding.claim, holding.task, index});
}

void list(State& state, std::uint32_t index) {
  const Holding& holding = state.holdings[index];
  const Claim& claim = state.entries[holding.entry].claim;
  if (holding.ends != kForever)
    state.ends.insert({holding.ends, holding.claim, holding.task, index});
  if (claim.kind == ClaimKind::job && claim.preemptible && !holding.preempted)
    state.victims.insert({claim.priority, -holding.started, holding.claim, holding.task, index});
}

void update_returns(const State& state, Holding& holding) {
  holding.returns = holding.taken;
  std::fill(holding.returns.begin() + static_cast<std::ptrdiff_t>(kFirstDevice),
            holding.returns.end(), 0);
  for (const auto& [device, parts] : holding.parts)
    if (state.machine.devices[device].state == DeviceState::usable)
      holding.returns[state.layout.column_of(device)] += parts;
}

std::vector<std::pair<std::uint32_t, std::int64_t>> parts_of(const State& state,
                                                             const Placement& placement) {
  std::vector<std::pair<std::uint32_t, std::int64_t>> parts;
  for (const RankPlacement& rank : placement.ranks)
    for (const DevicePart& part : rank.devices)
      if (const std::uint32_t device = state.links.index_of(part.device);
          device < state.machine.devices.size() && state.layout.column_of(device) != 0)
        parts.emplace_back(device, part.parts);
  return parts;
}

Vector taken_by(const State& state, const Need& need,
                const std::vector<std::pair<std::uint32_t, std::int64_t>>& parts) {
  Vector taken(state.layout.columns(), 0);
  taken[kCpu] = need.cpu_milli;
  taken[kMemory] = need.memory_bytes;
  for (const auto& [device, count] : parts) taken[state.layout.column_of(device)] += count;
  return taken;
}

void mark_pinned(State& state, const Placement& placement, bool pinned) {
  for (const RankPlacement& rank : placement.ranks)
    for (const std::uint32_t id : rank.cpus)
      if (const auto found = state.cpu_index.find(id); found != state.cpu_index.end())
        state.pinned[found->second] = pinned;
}

void open_books(State& state) {
  const FairShare& fair = state.fair_share;
  for (FairShare::Index i = static_cast<FairShare::Index>(state.users.size()); i < fair.users();
       ++i) {
    state.users.emplace_back();
    set_quota(state.users.back(), quota_of_user(state.policy, fair.name_of_user(i)), state.layout);
  }
  for (FairShare::Index i = static_cast<FairShare::Index>(state.accounts.size());
       i < fair.accounts(); ++i) {
    state.accounts.emplace_back();
    set_quota(state.accounts.back(), quota_of_account(state.policy, fair.name_of_account(i)),
              state.layout);
  }
}

void start_task(State& state, Slot slot, Start start, Time now) {
  const std::uint32_t index = new_holding(state);
  Entry& entry = state.entries[slot];
  Holding& holding = state.holdings[index];
  holding = {.claim = entry.claim.id,
             .task = start.task,
             .entry = slot,
             .taken = std::move(start.taken),
             .returns = {},
             .parts = std::move(start.parts),
             .rate = 0,
             .pieces = entry.pieces,
             .placement = std::move(start.placement),
             .started = start.started,
             .ends = limit_end(start.started, entry.claim.time_limit_ms)};
  holding.rate = state.layout.rate_of(holding.taken);
  update_returns(state, holding);
  for (std::size_t i = 0; i < state.free.size(); ++i) state.free[i] -= holding.returns[i];
  for (const auto& [device, parts] : holding.parts) state.parts_used[device] += parts;
  mark_pinned(state, holding.placement, true);
  if (start.adopted) look_at_commitment(state);
  book(state, entry, holding, 1);
  state.fair_share.change_rate(entry.place.association, holding.rate, now);
  list(state, index);
  const bool waited = !entry.pending.empty();
  entry.pending.remove(start.task);
  entry.running[start.task] = index;
  if (waited && entry.pending.empty()) count_queued(state, entry, -1);
  settle_in_line(state, slot);
}

void end_task(State& state, Slot slot, TaskId task, bool again, Time now) {
  Entry& entry = state.entries[slot];
  const auto found = entry.running.find(task);
  LOAM_ASSERT(found != entry.running.end());
  const std::uint32_t index = found->second;
  unlist(state, index);
  Holding& holding = state.holdings[index];
  for (std::size_t i = 0; i < state.free.size(); ++i) state.free[i] += holding.returns[i];
  for (const auto& [device, parts] : holding.parts) state.parts_used[device] -= parts;
  mark_pinned(state, holding.placement, false);
  if (state.overcommitted) look_at_commitment(state);
  book(state, entry, holding, -1);
  state.fair_share.change_rate(entry.place.association, -holding.rate, now);
  holding = {};
  state.unused_holdings.push_back(index);
  entry.running.erase(found);
  if (again) {
    if (entry.pending.empty()) count_queued(state, entry, 1);
    entry.pending.insert(task);
  }
  settle_in_line(state, slot);
}

Slot add_entry(State& state, const Claim& claim) {
  Slot slot = static_cast<Slot>(state.entries.size());
  if (state.unused_entries.empty()) {
    state.entries.emplace_back();
  } else {
    slot = state.unused_entries.back();
    state.unused_entries.pop_back();
  }
  Entry& entry = state.entries[slot];
  entry.claim = claim;
  entry.claim.ranks = std::max<std::uint32_t>(claim.ranks, 1);
  entry.claim.tasks = std::max<std::uint32_t>(claim.tasks, 1);
  entry.need = state.layout.need_of(entry.claim);
  entry.pieces = state.layout.pieces_by_kind(entry.need);
  entry.pending = TaskSet(entry.claim.tasks);
  for (const TaskId task : claim.tasks_done) entry.pending.remove(task);
  entry.place = {.priority = claim.priority,
                 .association = state.fair_share.association(claim.account, claim.user),
                 .class_id = state.waiting.class_of(entry.need, claim.time_limit_ms, state.layout),
                 .arrival = {++state.arrivals, slot}};
  open_books(state);
  state.slots[claim.id] = slot;
  if (!entry.pending.empty()) count_queued(state, entry, 1);
  settle_in_line(state, slot);
  return slot;
}

void remove_entry(State& state, Slot slot) {
  Entry& entry = state.entries[slot];
  LOAM_ASSERT(entry.running.empty());
  leave_line(state, slot);
  if (!entry.pending.empty()) count_queued(state, entry, -1);
  state.slots.erase(entry.claim.id);
  entry = {};
  state.unused_entries.push_back(slot);
}

void leave_line(State& state, Slot slot) {
  Entry& entry = state.entries[slot];
  if (!entry.queued) return;
  state.waiting.erase(entry.place);
  entry.queued = false;
}

void settle_in_line(State& state, Slot slot) {
  Entry& entry = state.entries[slot];
  const bool may =
      !entry.claim.held && !entry.pending.empty() &&
      (entry.claim.tasks_at_once == 0 || entry.running.size() < entry.claim.tasks_at_once);
  if (!may) return leave_line(state, slot);
  if (entry.queued) return;
  state.waiting.insert(entry.place, entry.need, entry.claim.time_limit_ms);
  entry.queued = true;
}

}  // namespace loam::sched
