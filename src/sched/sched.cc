#include "sched/sched.h"

#include <algorithm>

#include "base/result.h"
#include "sched/decide.h"
#include "sched/holding.h"

namespace loam::sched {
namespace {

// Everything that follows from machine and policy, made anew; who waits and who runs stays.
void rebuild(State& state, Time now) {
  state.layout = Layout(state.machine, state.policy.weights);
  state.links = Links(state.machine);
  state.cpu_index.clear();
  for (std::uint32_t i = 0; i < state.machine.cpus.size(); ++i)
    state.cpu_index[state.machine.cpus[i].id] = i;
  state.pinned.assign(state.machine.cpus.size(), false);
  state.parts_used.assign(state.machine.devices.size(), 0);
  state.usable.assign(state.layout.columns(), 0);
  state.usable[kCpu] = state.layout.everything()[kCpu];
  state.usable[kMemory] = state.layout.everything()[kMemory];
  for (std::uint32_t i = 0; i < state.machine.devices.size(); ++i)
    if (const std::size_t column = state.layout.column_of(i);
        column != 0 && state.machine.devices[i].state == DeviceState::usable)
      state.usable[column] += state.layout.dimension(column).sharing.parts;
  state.free = state.usable;
  state.waiting.clear();
  state.users.clear();
  state.accounts.clear();
  open_books(state);
  for (auto& [id, slot] : state.slots) {
    Entry& entry = state.entries[slot];
    entry.need = state.layout.need_of(entry.claim);
    entry.pieces = state.layout.pieces_by_kind(entry.need);
    entry.place.class_id =
        state.waiting.class_of(entry.need, entry.claim.time_limit_ms, state.layout);
    entry.queued = false;
    const auto running = std::exchange(entry.running, {});
    std::vector<Start> starts;
    std::vector<Holding> before;
    for (const auto& [task, index] : running) {
      unlist(state, index);
      before.push_back(std::move(state.holdings[index]));
      state.holdings[index] = {};
      state.unused_holdings.push_back(index);
      state.fair_share.change_rate(entry.place.association, -before.back().rate, now);
      entry.pending.insert(task);
    }
    if (!entry.pending.empty()) {
      ++state.users[state.fair_share.user_of(entry.place.association)].queued;
      ++state.accounts[state.fair_share.account_of(entry.place.association)].queued;
    }
    for (Holding& old : before) {
      auto parts = parts_of(state, old.placement);
      auto taken = taken_by(state, entry.need, parts);
      Start start{.task = old.task,
                  .taken = std::move(taken),
                  .placement = std::move(old.placement),
                  .parts = std::move(parts),
                  .started = old.started,
                  .adopted = true};
      start_task(state, slot, std::move(start), now);
      if (!old.preempted) continue;
      const std::uint32_t index = entry.running.at(old.task);
      unlist(state, index);
      state.holdings[index].ends = old.ends;
      state.holdings[index].preempted = true;
      list(state, index);
    }
    settle_in_line(state, slot);
  }
}

}  // namespace

State make_state(Machine machine, Policy policy) {
  State state;
  state.machine = std::move(machine);
  state.policy = std::move(policy);
  state.fair_share = FairShare(state.policy);
  rebuild(state, 0);
  return state;
}

void on_submitted(State& state, const Claim& claim, Time now, Actions& actions) {
  LOAM_ASSERT(!state.slots.contains(claim.id));
  decide_on(state, add_entry(state, claim), now, actions);
}

void on_adopted(State& state, const Claim& claim, const Running& running, Time now) {
  const auto found = state.slots.find(claim.id);
  const Slot slot = found == state.slots.end() ? add_entry(state, claim) : found->second;
  const Entry& entry = state.entries[slot];
  LOAM_ASSERT(!entry.running.contains(running.task));
  auto parts = parts_of(state, running.placement);
  auto taken = taken_by(state, entry.need, parts);
  start_task(state, slot,
             {.task = running.task,
              .taken = std::move(taken),
              .placement = running.placement,
              .parts = std::move(parts),
              .started = running.started,
              .adopted = true},
             now);
}

void on_released(State& state, ClaimId id, Time now, Actions& actions) {
  const auto found = state.slots.find(id);
  if (found == state.slots.end()) return;
  const Slot slot = found->second;
  state.entries[slot].claim.held = true;  // its tasks do not come back
  while (!state.entries[slot].running.empty())
    end_task(state, slot, state.entries[slot].running.begin()->first, false, now);
  remove_entry(state, slot);
  decide(state, now, actions);
}

void on_task_ended(State& state, ClaimId id, TaskId task, Time now, Actions& actions) {
  const auto found = state.slots.find(id);
  if (found == state.slots.end()) return;
  const Slot slot = found->second;
  if (!state.entries[slot].running.contains(task)) return;
  end_task(state, slot, task, false, now);
  if (state.entries[slot].running.empty() && state.entries[slot].pending.empty())
    remove_entry(state, slot);
  decide(state, now, actions);
}

void on_task_requeued(State& state, ClaimId id, TaskId task, Time now, Actions& actions) {
  const auto found = state.slots.find(id);
  if (found == state.slots.end() || !state.entries[found->second].running.contains(task)) return;
  end_task(state, found->second, task, true, now);
  decide(state, now, actions);
}

void on_held(State& state, ClaimId id, Time now, Actions& actions) {
  Entry* entry = state.find(id);
  if (entry == nullptr || entry->claim.held) return;
  entry->claim.held = true;
  settle_in_line(state, state.slots.at(id));
  decide(state, now, actions);
}

void on_unheld(State& state, ClaimId id, Time now, Actions& actions) {
  Entry* entry = state.find(id);
  if (entry == nullptr || !entry->claim.held) return;
  entry->claim.held = false;
  settle_in_line(state, state.slots.at(id));
  decide(state, now, actions);
}

namespace {

// Its class or level may be another from here on.
template <class Change>
void change_claim(State& state, ClaimId id, Time now, Actions& actions, const Change& change) {
  Entry* entry = state.find(id);
  if (entry == nullptr) return;
  const Slot slot = state.slots.at(id);
  leave_line(state, slot);
  for (const auto& [task, index] : entry->running) unlist(state, index);
  change(*entry);
  entry->place.priority = entry->claim.priority;
  entry->place.class_id =
      state.waiting.class_of(entry->need, entry->claim.time_limit_ms, state.layout);
  for (const auto& [task, index] : entry->running) {
    Holding& holding = state.holdings[index];
    if (!holding.preempted) holding.ends = limit_end(holding.started, entry->claim.time_limit_ms);
    list(state, index);
  }
  settle_in_line(state, slot);
  decide(state, now, actions);
}

}  // namespace

void on_priority_changed(State& state, ClaimId id, std::int32_t priority, Time now,
                         Actions& actions) {
  change_claim(state, id, now, actions, [&](Entry& entry) { entry.claim.priority = priority; });
}

void on_limit_changed(State& state, ClaimId id, std::int64_t time_limit_ms, Time now,
                      Actions& actions) {
  change_claim(state, id, now, actions,
               [&](Entry& entry) { entry.claim.time_limit_ms = time_limit_ms; });
}

void on_device_changed(State& state, const std::string& id, DeviceState device_state,
                       const std::string& reason, Time now, Actions& actions) {
  const std::uint32_t index = state.links.index_of(id);
  if (index >= state.machine.devices.size()) return;
  Device& device = state.machine.devices[index];
  device.reason = reason;
  const bool was_usable = device.state == DeviceState::usable;
  const bool is_usable = device_state == DeviceState::usable;
  device.state = device_state;
  const std::size_t column = state.layout.column_of(index);
  if (was_usable == is_usable || column == 0) return;
  const std::int64_t parts = state.layout.dimension(column).sharing.parts;
  const std::int64_t sign = is_usable ? 1 : -1;
  state.usable[column] += sign * parts;
  state.free[column] += sign * (parts - state.parts_used[index]);
  for (Holding& holding : state.holdings)
    if (std::any_of(holding.parts.begin(), holding.parts.end(),
                    [&](const auto& part) { return part.first == index; }))
      update_returns(state, holding);
  decide(state, now, actions);
}

void on_machine_changed(State& state, Machine machine, Time now, Actions& actions) {
  state.machine = std::move(machine);
  rebuild(state, now);
  decide(state, now, actions);
}

void on_policy_changed(State& state, Policy policy, Time now, Actions& actions) {
  state.policy = std::move(policy);
  state.fair_share.set_policy(state.policy, now);
  rebuild(state, now);
  decide(state, now, actions);
}

void on_time(State& state, Time now, Actions& actions) { go_on(state, now, actions); }

void on_paused(State& state, const std::string& why, Time now, Actions& actions) {
  const bool was_paused = !state.paused.empty();
  state.paused = why;
  if (was_paused != !why.empty()) decide(state, now, actions);
}

std::int64_t rate_of(const State& state, const Claim& asked, const Placement& placement) {
  Claim claim = asked;
  claim.ranks = std::max<std::uint32_t>(claim.ranks, 1);
  return state.layout.rate_of(
      taken_by(state, state.layout.need_of(claim), parts_of(state, placement)));
}

void restore_usage(State& state, const UsageRow& row, Time now) {
  state.fair_share.restore(row, now);
  open_books(state);
}

std::vector<std::uint32_t> shared_cpus(const State& state) {
  std::vector<std::uint32_t> cpus;
  for (std::size_t i = 0; i < state.machine.cpus.size(); ++i)
    if (!state.pinned[i]) cpus.push_back(state.machine.cpus[i].id);
  return cpus;
}

const Placement* placement_of(const State& state, ClaimId id, TaskId task) {
  const Entry* entry = state.find(id);
  if (entry == nullptr) return nullptr;
  const auto found = entry->running.find(task);
  return found == entry->running.end() ? nullptr : &state.holdings[found->second].placement;
}

}  // namespace loam::sched
