#include "sched/sched.h"

#include <algorithm>
#include <cstdio>
#include <set>

#include "base/result.h"
#include "base/text.h"

namespace loam::sched {
namespace {

bool within(const Amount& amount, const Amount& limit) {
  return amount.cpu_milli <= limit.cpu_milli && amount.memory_bytes <= limit.memory_bytes;
}

Amount free_of(const State& state) {
  const auto rest = [](std::uint64_t total, std::uint64_t used) {
    return used < total ? total - used : 0;
  };
  return {rest(state.total.cpu_milli, state.used.cpu_milli),
          rest(state.total.memory_bytes, state.used.memory_bytes)};
}

void take(State& state, const Amount& amount) {
  state.used.cpu_milli += amount.cpu_milli;
  state.used.memory_bytes += amount.memory_bytes;
}

void give(State& state, const Amount& amount) {
  LOAM_ASSERT(within(amount, state.used));
  state.used.cpu_milli -= amount.cpu_milli;
  state.used.memory_bytes -= amount.memory_bytes;
  if (within(state.used, state.total)) state.over = false;
}

// Grants from the front until the first that does not fit: nobody overtakes.
void grant_what_fits(State& state, Actions& actions) {
  std::size_t granted = 0;
  for (; granted < state.queue.size(); ++granted) {
    Entry& entry = state.claims.at(state.queue[granted]);
    if (state.over || !within(entry.claim.amount, free_of(state))) break;
    take(state, entry.claim.amount);
    entry.state = ClaimState::granted;
    actions.push_back({Action::Kind::grant, entry.claim.id});
  }
  state.queue.erase(state.queue.begin(),
                    state.queue.begin() + static_cast<std::ptrdiff_t>(granted));
}

// 1500 → "1.5", 2000 → "2", 250 → "0.25".
std::string cpus(std::uint64_t milli) {
  std::string text = std::to_string(milli / 1000);
  if (milli % 1000 == 0) return text;
  char fraction[8];
  std::snprintf(fraction, sizeof fraction, ".%03u", static_cast<unsigned>(milli % 1000));
  text += fraction;
  while (text.back() == '0') text.pop_back();
  return text;
}

std::string cpus_named(std::uint64_t milli) {
  return cpus(milli) + (milli == 1000 ? " CPU" : " CPUs");
}

}  // namespace

std::string refusal(const State& state, const Amount& amount) {
  if (amount.cpu_milli > state.total.cpu_milli)
    return "asks for " + cpus_named(amount.cpu_milli) + "; this machine has " +
           cpus(state.total.cpu_milli);
  if (amount.memory_bytes > state.total.memory_bytes)
    return "asks for " + format_size(amount.memory_bytes) + " of memory; this machine has " +
           format_size(state.total.memory_bytes);
  return "";
}

void on_submitted(State& state, const Claim& claim, Actions& actions) {
  LOAM_ASSERT(!state.claims.contains(claim.id));
  LOAM_ASSERT(refusal(state, claim.amount).empty());
  state.claims[claim.id] = {claim, ClaimState::waiting};
  state.queue.push_back(claim.id);
  grant_what_fits(state, actions);
}

void on_adopted(State& state, const Claim& claim) {
  LOAM_ASSERT(!state.claims.contains(claim.id));
  state.claims[claim.id] = {claim, ClaimState::granted};
  take(state, claim.amount);
  state.over = !within(state.used, state.total);
}

void on_released(State& state, ClaimId id, Actions& actions) {
  const auto found = state.claims.find(id);
  if (found == state.claims.end()) return;
  if (found->second.state == ClaimState::granted)
    give(state, found->second.claim.amount);
  else
    std::erase(state.queue, id);
  state.claims.erase(found);
  grant_what_fits(state, actions);
}

std::string explain(const State& state, ClaimId id) {
  const auto found = state.claims.find(id);
  if (found == state.claims.end() || found->second.state == ClaimState::granted) return "";
  const Amount& amount = found->second.claim.amount;
  const Amount free = free_of(state);
  std::vector<std::string> short_of;
  if (amount.cpu_milli > free.cpu_milli)
    short_of.push_back(cpus(amount.cpu_milli) + " of " + cpus_named(state.total.cpu_milli) + " (" +
                       cpus(free.cpu_milli) + " free)");
  if (amount.memory_bytes > free.memory_bytes)
    short_of.push_back(format_size(amount.memory_bytes) + " of " +
                       format_size(state.total.memory_bytes) + " memory (" +
                       format_size(free.memory_bytes) + " free)");
  const auto ahead = std::find(state.queue.begin(), state.queue.end(), id) - state.queue.begin();
  std::string text = "waits";
  if (!short_of.empty()) text += " for " + join(short_of, " and ");
  if (ahead > 0) text += " behind " + std::to_string(ahead) + (ahead == 1 ? " claim" : " claims");
  return text;
}

bool sane(const State& state) {
  Amount sum;
  std::size_t waiting = 0;
  for (const auto& [id, entry] : state.claims) {
    if (entry.claim.id != id) return false;
    if (entry.state == ClaimState::waiting) {
      ++waiting;
      continue;
    }
    sum.cpu_milli += entry.claim.amount.cpu_milli;
    sum.memory_bytes += entry.claim.amount.memory_bytes;
  }
  if (sum.cpu_milli != state.used.cpu_milli || sum.memory_bytes != state.used.memory_bytes)
    return false;
  if (within(state.used, state.total) == state.over) return false;
  if (waiting != state.queue.size()) return false;
  std::set<ClaimId> seen;
  for (const ClaimId id : state.queue) {
    const auto found = state.claims.find(id);
    if (found == state.claims.end() || found->second.state != ClaimState::waiting) return false;
    if (!seen.insert(id).second) return false;
  }
  return state.queue.empty() || state.over ||
         !within(state.claims.at(state.queue.front()).claim.amount, free_of(state));
}

}  // namespace loam::sched
