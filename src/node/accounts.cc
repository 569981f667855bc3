#include "node/accounts.h"

#include <algorithm>
#include <cmath>

#include "base/text.h"

namespace loam::node {
namespace {

std::optional<sched::Quota> quota_of(const std::optional<spec::QuotaLimits>& limits) {
  if (!limits) return std::nullopt;
  return sched::Quota{.cpu_milli = limits->cpu_milli.value_or(sched::kUnlimited),
                      .memory_bytes = limits->memory_bytes.value_or(sched::kUnlimited),
                      .running = limits->running.value_or(sched::kUnlimited),
                      .devices = limits->devices,
                      .queued = limits->queued.value_or(sched::kUnlimited)};
}

std::int64_t milliseconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

bool may_use(const spec::Account& account, const AccountUser& user) {
  return user.root || !account.members ||
         std::find(account.members->begin(), account.members->end(), user.user) !=
             account.members->end();
}

// Those that he may use; default among them, unless the configuration keeps it to others.
std::vector<std::string> usable(const spec::NodeConfig& config, const AccountUser& user) {
  std::vector<std::string> names;
  bool has_default = false;
  for (const spec::Account& account : config.accounts) {
    has_default = has_default || account.name == spec::kDefaultAccount;
    if (may_use(account, user)) names.push_back(account.name);
  }
  if (!has_default) names.emplace_back(spec::kDefaultAccount);
  return names;
}

std::string those_he_may_use(const std::vector<std::string>& names) {
  return names.empty() ? "; there is none that you may use" : "; you may use " + join(names, ", ");
}

}  // namespace

sched::Policy policy_for(const spec::NodeConfig& config) {
  const spec::QueueRules& rules = config.queue;
  const auto points = [](double whole) { return std::int64_t{std::llround(whole * 1000)}; };
  sched::Policy policy;
  for (const spec::Account& one : config.accounts)
    policy.accounts[one.name] = {.shares = static_cast<std::uint32_t>(one.shares),
                                 .quota = quota_of(one.quota)};
  for (const spec::User& one : config.users)
    policy.users[one.name] = {.shares = static_cast<std::uint32_t>(one.shares),
                              .quota = quota_of(one.quota)};
  policy.user_default = quota_of(rules.user_quota);
  policy.weights.cpu_milli_points = points(rules.cpu_points);
  policy.weights.memory_gib_milli_points = points(rules.memory_gib_points);
  policy.weights.gpu_milli_points = points(rules.gpu_points);
  for (const auto& [kind, whole] : rules.device_points)
    policy.weights.devices[kind] = points(whole);
  policy.half_life_ms = milliseconds(rules.half_life);
  policy.foresight_ms = milliseconds(rules.foresight);
  policy.fill_limit_ms = milliseconds(rules.fill_limit);
  policy.reservations = static_cast<std::uint32_t>(rules.reservations);
  policy.fair_share = rules.fair_share;
  policy.backfill = rules.backfill;
  policy.preemption = rules.preemption;
  return policy;
}

Result<std::string> account_for(const spec::NodeConfig& config, const AccountUser& user,
                                const std::string& asked) {
  std::string name = asked;
  for (const spec::User& one : config.users)
    if (name.empty() && one.name == user.user) name = one.account;
  if (name.empty()) name = spec::kDefaultAccount;
  const auto names = usable(config, user);
  if (std::find(names.begin(), names.end(), name) != names.end()) return name;
  const bool there = std::any_of(config.accounts.begin(), config.accounts.end(),
                                 [&](const spec::Account& one) { return one.name == name; });
  if (there)
    return fail(ErrorCode::denied, user.user + " is no member of the account '" + name + "'" +
                                       those_he_may_use(names));
  const std::string near = nearest(name, names);
  return fail(ErrorCode::invalid,
              "there is no account '" + printable(name) + "' on this node" +
                  (near.empty() ? those_he_may_use(names) : "; did you mean '" + near + "'?"));
}

}  // namespace loam::node
