#include "sched/quota.h"

#include "base/text.h"
#include "sched/sched.h"
#include "sched/text.h"

namespace loam::sched {
namespace {

bool leaves(const Held& held, const Need& need, const std::vector<std::int64_t>& pieces) {
  if (!held.quota) return true;
  const auto room = [](std::int64_t has, std::int64_t more, std::int64_t limit) {
    return limit == kUnlimited || has + more <= limit;
  };
  const Quota& quota = *held.quota;
  if (!room(held.cpu_milli, need.cpu_milli, quota.cpu_milli) ||
      !room(held.memory_bytes, need.memory_bytes, quota.memory_bytes) ||
      !room(held.running, 1, quota.running))
    return false;
  for (std::size_t kind = 0; kind < pieces.size() && kind < held.pieces_max.size(); ++kind)
    if (pieces[kind] > 0 && !room(held.pieces[kind], pieces[kind], held.pieces_max[kind]))
      return false;
  return true;
}

// The first limit that `need` on top of `held` breaks, in words; `more` puts them together.
template <class Words>
std::string first_broken(const Held& held, const Need& need,
                         const std::vector<std::int64_t>& pieces, const Layout& layout,
                         const Words& words) {
  if (!held.quota) return "";
  const Quota& quota = *held.quota;
  if (quota.cpu_milli != kUnlimited && held.cpu_milli + need.cpu_milli > quota.cpu_milli)
    return words(cpus_named(need.cpu_milli), cpus_text(held.cpu_milli),
                 cpus_named(quota.cpu_milli));
  const auto size = [](std::int64_t bytes) {
    return format_size(static_cast<std::uint64_t>(bytes));
  };
  if (quota.memory_bytes != kUnlimited &&
      held.memory_bytes + need.memory_bytes > quota.memory_bytes)
    return words(size(need.memory_bytes) + " of memory", size(held.memory_bytes),
                 size(quota.memory_bytes) + " of memory");
  for (std::size_t kind = 0; kind < pieces.size() && kind < held.pieces_max.size(); ++kind)
    if (pieces[kind] > 0 && held.pieces_max[kind] != kUnlimited &&
        held.pieces[kind] + pieces[kind] > held.pieces_max[kind])
      return words(devices_named(pieces[kind], layout.kinds()[kind]),
                   std::to_string(held.pieces[kind]),
                   devices_named(held.pieces_max[kind], layout.kinds()[kind]));
  if (quota.running != kUnlimited && held.running + 1 > quota.running)
    return words("1 more running job", std::to_string(held.running),
                 std::to_string(quota.running) + " running jobs");
  return "";
}

// Users and accounts that have not been seen yet have what the policy says.
Held held_of(const State& state, const std::vector<Held>& all,
             std::optional<FairShare::Index> index, const std::optional<Quota>& quota) {
  if (index) return all[*index];
  Held held;
  set_quota(held, quota, state.layout);
  return held;
}

Held held_of_user(const State& state, const std::string& user) {
  return held_of(state, state.users, state.fair_share.find_user(user),
                 quota_of_user(state.policy, user));
}

Held held_of_account(const State& state, const std::string& account) {
  return held_of(state, state.accounts, state.fair_share.find_account(account),
                 quota_of_account(state.policy, account));
}

}  // namespace

bool quota_leaves(const State& state, FairShare::Index association, const Need& need,
                  const std::vector<std::int64_t>& pieces) {
  return leaves(state.users[state.fair_share.user_of(association)], need, pieces) &&
         leaves(state.accounts[state.fair_share.account_of(association)], need, pieces);
}

std::string quota_against(const State& state, const Entry& entry) {
  const FairShare::Index association = entry.place.association;
  const auto against = [&](const Held& held, const std::string& who) {
    return first_broken(held, entry.need, entry.pieces, state.layout,
                        [&](const std::string&, const std::string& has, const std::string& limit) {
                          return who + " holds " + has + " of at most " + limit;
                        });
  };
  std::string text = against(state.users[state.fair_share.user_of(association)],
                             state.fair_share.user_name(association));
  if (text.empty())
    text = against(state.accounts[state.fair_share.account_of(association)],
                   "account " + state.fair_share.account_name(association));
  return text;
}

std::string quota_refusal(const State& state, const Claim& claim, const Need& need) {
  const auto pieces = state.layout.pieces_by_kind(need);
  const auto refused = [&](Held held, const std::string& who) {
    held.cpu_milli = held.memory_bytes = held.running = 0;
    held.pieces.assign(state.layout.kinds().size(), 0);
    return first_broken(
        held, need, pieces, state.layout,
        [&](const std::string& asks, const std::string&, const std::string& limit) {
          return "asks for " + asks + "; " + who + " may hold " + limit + " at a time";
        });
  };
  std::string text = refused(held_of_user(state, claim.user), claim.user);
  if (text.empty())
    text = refused(held_of_account(state, claim.account), "account " + claim.account);
  return text;
}

std::optional<QueueRefusal> queue_refusal(const State& state, const Claim& claim,
                                          std::int64_t more) {
  const auto refused = [&](const Held& held,
                           const std::string& who) -> std::optional<QueueRefusal> {
    if (!held.quota || held.quota->queued == kUnlimited) return std::nullopt;
    const std::int64_t limit = held.quota->queued;
    if (held.queued + more <= limit) return std::nullopt;
    std::string text = who + " has " + std::to_string(held.queued) + " of at most " +
                       std::to_string(limit) + " claims in the queue";
    if (more > 1) text += "; these are " + std::to_string(more) + " more";
    return QueueRefusal{.text = std::move(text), .never = more > limit};
  };
  if (auto text = refused(held_of_user(state, claim.user), claim.user)) return text;
  return refused(held_of_account(state, claim.account), "account " + claim.account);
}

std::optional<Quota> quota_of_user(const Policy& policy, const std::string& user) {
  const auto found = policy.users.find(user);
  return found != policy.users.end() && found->second.quota ? found->second.quota
                                                            : policy.user_default;
}

std::optional<Quota> quota_of_account(const Policy& policy, const std::string& account) {
  const auto found = policy.accounts.find(account);
  return found == policy.accounts.end() ? std::nullopt : found->second.quota;
}

void set_quota(Held& held, const std::optional<Quota>& quota, const Layout& layout) {
  held.quota = quota;
  held.pieces.resize(layout.kinds().size(), 0);
  held.pieces_max.assign(layout.kinds().size(), kUnlimited);
  if (quota)
    for (const auto& [kind, limit] : quota->devices)
      for (std::size_t i = 0; i < layout.kinds().size(); ++i)
        if (layout.kinds()[i] == kind) held.pieces_max[i] = limit;
}

}  // namespace loam::sched
