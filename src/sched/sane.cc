// Every invariant, from scratch: what the books say against what the claims say.
#include <algorithm>
#include <set>

#include "sched/decide.h"
#include "sched/holding.h"
#include "sched/quota.h"
#include "sched/sched.h"

namespace loam::sched {
namespace {

std::string holdings_wrong(const State& state) {
  Vector free = state.usable;
  std::vector<std::int64_t> parts(state.machine.devices.size(), 0);
  std::set<std::uint32_t> cpus;
  std::size_t running = 0, ends = 0, victims = 0;
  for (const auto& [id, slot] : state.slots) {
    const Entry& entry = state.entries[slot];
    for (const auto& [task, index] : entry.running) {
      const Holding& holding = state.holdings[index];
      ++running;
      if (holding.claim != id || holding.task != task || holding.entry != slot)
        return "a holding belongs to another claim";
      for (std::size_t i = 0; i < free.size(); ++i) free[i] -= holding.returns[i];
      for (const auto& [device, count] : holding.parts) parts[device] += count;
      for (const RankPlacement& rank : holding.placement.ranks)
        for (const std::uint32_t cpu : rank.cpus)
          if (state.cpu_index.contains(cpu) && !cpus.insert(cpu).second)
            return "CPU " + std::to_string(cpu) + " is pinned twice";
      ends += holding.ends != kForever ? 1 : 0;
      if (holding.ends != kForever && !state.ends.contains({holding.ends, id, task, index}))
        return "an end is not listed";
      victims +=
          entry.claim.kind == ClaimKind::job && entry.claim.preemptible && !holding.preempted;
    }
  }
  if (running + state.unused_holdings.size() != state.holdings.size()) return "a holding is lost";
  if (ends != state.ends.size() || victims != state.victims.size())
    return "lists of ends or victims do not agree with what runs";
  if (free != state.free) return "what is free is not what is left";
  if (parts != state.parts_used) return "devices' parts do not add up";
  for (std::size_t i = 0; i < state.machine.cpus.size(); ++i)
    if (state.pinned[i] != cpus.contains(state.machine.cpus[i].id))
      return "pinned CPUs do not agree with placements";
  return "";
}

std::string capacity_wrong(const State& state) {
  if (state.overcommitted) return "";
  for (std::size_t i = 0; i < state.free.size(); ++i)
    if (state.free[i] < 0) return "more is held than there is";
  for (std::size_t i = 0; i < state.parts_used.size(); ++i)
    if (state.parts_used[i] > state.machine.devices[i].sharing.parts)
      return "device " + state.machine.devices[i].id + " has more owners than parts";
  return "";
}

std::string books_wrong(const State& state) {
  std::vector<Held> users(state.users.size()), accounts(state.accounts.size());
  std::vector<std::int64_t> rates(state.fair_share.associations(), 0);
  for (const auto& [id, slot] : state.slots) {
    const Entry& entry = state.entries[slot];
    const FairShare::Index association = entry.place.association;
    for (Held* held : {&users[state.fair_share.user_of(association)],
                       &accounts[state.fair_share.account_of(association)]}) {
      held->pieces.resize(state.layout.kinds().size(), 0);
      held->queued += entry.pending.empty() ? 0 : 1;
      for (const auto& [task, index] : entry.running) {
        held->cpu_milli += state.holdings[index].taken[kCpu];
        held->memory_bytes += state.holdings[index].taken[kMemory];
        ++held->running;
        for (std::size_t kind = 0; kind < held->pieces.size(); ++kind)
          held->pieces[kind] += state.holdings[index].pieces[kind];
      }
    }
    for (const auto& [task, index] : entry.running)
      rates[association] += state.holdings[index].rate;
  }
  const auto differ = [&](Held& counted, const Held& kept) {
    counted.pieces.resize(kept.pieces.size(), 0);
    return counted.cpu_milli != kept.cpu_milli || counted.memory_bytes != kept.memory_bytes ||
           counted.running != kept.running || counted.queued != kept.queued ||
           counted.pieces != kept.pieces;
  };
  for (std::size_t i = 0; i < users.size(); ++i)
    if (differ(users[i], state.users[i])) return "a user's book is wrong";
  for (std::size_t i = 0; i < accounts.size(); ++i)
    if (differ(accounts[i], state.accounts[i])) return "an account's book is wrong";
  for (FairShare::Index i = 0; i < rates.size(); ++i)
    if (rates[i] != state.fair_share.rate(i)) return "a user's rate is wrong";
  return "";
}

std::string line_wrong(const State& state) {
  std::size_t queued = 0;
  for (const auto& [id, slot] : state.slots) {
    const Entry& entry = state.entries[slot];
    const bool may =
        !entry.claim.held && !entry.pending.empty() &&
        (entry.claim.tasks_at_once == 0 || entry.running.size() < entry.claim.tasks_at_once);
    if (entry.queued != may) return "a claim stands in line that may not, or the other way round";
    if (may && !state.waiting.contains(entry.place)) return "a claim is missing in its line";
    if (entry.claim.tasks_at_once != 0 && entry.running.size() > entry.claim.tasks_at_once)
      return "more tasks run at once than allowed";
    if (entry.running.size() + entry.pending.size() > entry.claim.tasks) return "tasks multiplied";
    queued += entry.queued ? 1 : 0;
  }
  return queued == state.waiting.size() ? "" : "lines hold claims that are gone";
}

}  // namespace

std::string insane(const State& state, Time now) {
  for (const std::string& wrong : {holdings_wrong(state), books_wrong(state), line_wrong(state)})
    if (!wrong.empty()) return wrong;
  if (!state.fair_share.sane(now)) return "usage does not add up";
  for (const Reservation& one : state.reservations) {
    const Entry* entry = state.find(one.claim);
    if (entry == nullptr || !entry->queued) return "a reservation for a claim that does not wait";
  }
  if (const std::string wrong = capacity_wrong(state); !wrong.empty()) return wrong;
  return first_could_start(state, now) ? "the first in order fits and does not run" : "";
}

}  // namespace loam::sched
