// `queue:`, `accounts:` and `users:` of the node's configuration: who is next, and how much anybody
// may hold at one time.
//
//   accounts: {vision: {shares: 3, members: [anna, ben], quota: {gpus: 4}}}
//   users: {anna: {shares: 2, account: vision, quota: {cpus: 16, devices: {licence-x: 1}}}}
#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "spec/checks.h"
#include "spec/node_config_parts.h"

namespace loam::spec {
namespace {

constexpr IntegerRange kShares{1, 1'000'000};
constexpr IntegerRange kCount{0, 1'000'000};
constexpr IntegerRange kReservations{1, 64};  // each makes a decision longer (sched/policy.h)
constexpr NumberRange kQuotaCpus{0, 1'000'000};
constexpr SizeRange kQuotaBytes{0, 1ull << 50};
constexpr NumberRange kPoints{0, 10'000};
constexpr DurationRange kHalfLife{std::chrono::minutes(1), std::chrono::hours(24 * 3650)};
constexpr DurationRange kSpan{std::chrono::seconds(0), std::chrono::hours(24 * 365)};
constexpr std::size_t kPartiesMax = 10'000;
constexpr std::size_t kUserNameBytesMax = 256;
constexpr const char* kGpu = "gpu";

// A name of the system's directory of users, whose rules are not ours.
bool check_user_name(const Value& value, const std::string& name) {
  if (!name.empty() && name.size() <= kUserNameBytesMax && printable(name) == name &&
      name.find_first_of(" \t/:") == std::string::npos)
    return true;
  value.reader().problem(value.key_place(), value.key(), quoted(name) + " is no user's name");
  return false;
}

QuotaLimits read_quota(const Value& value) {
  const Section section(value, {"cpus", "memory", "gpus", "devices", "running", "queued", "store"},
                        "a map such as {cpus: 16, memory: 64GiB, gpus: 2, running: 20}");
  QuotaLimits quota;
  if (const auto cpus = section.find("cpus"))
    if (const auto count = cpus->number(kQuotaCpus))
      quota.cpu_milli = static_cast<std::int64_t>(std::llround(*count * 1000));
  if (const auto memory = section.find("memory"))
    if (const auto bytes = memory->size_bytes(kQuotaBytes))
      quota.memory_bytes = static_cast<std::int64_t>(*bytes);
  if (const auto store = section.find("store"))
    if (const auto bytes = store->size_bytes(kQuotaBytes))
      quota.store_bytes = static_cast<std::int64_t>(*bytes);
  if (const auto running = section.find("running")) quota.running = running->integer(kCount);
  if (const auto queued = section.find("queued")) quota.queued = queued->integer(kCount);
  if (const auto gpus = section.find("gpus"))
    if (const auto count = gpus->integer(kCount)) quota.devices[kGpu] = *count;
  if (const auto devices = section.find("devices"))
    for (const NamedValue& member : devices->members("a map such as {licence-x: 1}"))
      if (const auto count = member.value.integer(kCount)) quota.devices[member.name] = *count;
  return quota;
}

void read_weights(const Value& value, QueueRules& rules) {
  const Section section(value, {"cpus", "memory", "gpus", "devices"},
                        "a map such as {cpus: 1, memory: 0.125, gpus: 16}");
  const auto read = [&](std::string_view key, double& points) {
    if (const auto item = section.find(key)) points = item->number(kPoints).value_or(points);
  };
  read("cpus", rules.cpu_points);
  read("memory", rules.memory_gib_points);
  read("gpus", rules.gpu_points);
  if (const auto devices = section.find("devices"))
    for (const NamedValue& member : devices->members("a map such as {licence-x: 1}"))
      if (const auto points = member.value.number(kPoints))
        rules.device_points[member.name] = *points;
}

std::vector<std::string> read_members(const Value& value) {
  std::vector<std::string> members;
  for (const Value& item : value.items("a list of users")) {
    const auto name = item.text("a user's name");
    if (!name || !check_user_name(item, *name)) continue;
    if (std::find(members.begin(), members.end(), *name) != members.end())
      item.problem(quoted(*name) + " is listed twice");
    else
      members.push_back(*name);
  }
  return members;
}

// One more of a map of parties, or a problem where there are too many.
bool has_room(const NamedValue& member, std::size_t parties) {
  if (parties < kPartiesMax) return true;
  if (parties == kPartiesMax)
    member.value.problem("more than " + std::to_string(kPartiesMax) + " of them");
  return false;
}

void check_devices(Reader& reader, Place place, const std::string& key,
                   const std::vector<std::string>& named, const NodeConfig& config) {
  std::vector<std::string> declared;
  for (const DeclaredDevice& device : config.devices) declared.push_back(device.name);
  for (const std::string& name : named)
    if (name != kGpu && std::find(declared.begin(), declared.end(), name) == declared.end())
      reader.problem(place, key,
                     "devices: " + quoted(name) + " is not declared under devices: of this file" +
                         did_you_mean(name, declared));
}

template <class Amount>
std::vector<std::string> names_of(const std::map<std::string, Amount>& devices) {
  std::vector<std::string> names;
  for (const auto& [name, amount] : devices) names.push_back(name);
  return names;
}

Json milliseconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

Json to_json(const std::optional<QuotaLimits>& quota) {
  if (!quota) return nullptr;
  const auto or_null = [](const std::optional<std::int64_t>& limit) {
    return limit ? Json(*limit) : Json();
  };
  Json devices = Json::object();
  for (const auto& [name, count] : quota->devices) devices.set(name, count);
  return Json::object({{"cpu_milli", or_null(quota->cpu_milli)},
                       {"memory_bytes", or_null(quota->memory_bytes)},
                       {"running", or_null(quota->running)},
                       {"queued", or_null(quota->queued)},
                       {"store_bytes", or_null(quota->store_bytes)},
                       {"devices", std::move(devices)}});
}

}  // namespace

QueueRules read_queue_rules(const Value& value) {
  const Section section(value,
                        {"half_life", "foresight", "fill_limit", "reservations", "fair_share",
                         "backfill", "preemption", "weights", "user_quota"},
                        "a map such as {half_life: 7d}");
  QueueRules rules;
  rules.place = value.key_place();
  const auto duration = [&](std::string_view key, DurationRange range,
                            std::chrono::nanoseconds& kept) {
    if (const auto item = section.find(key)) kept = item->duration(range).value_or(kept);
  };
  const auto boolean = [&](std::string_view key, bool& kept) {
    if (const auto item = section.find(key)) kept = item->boolean().value_or(kept);
  };
  duration("half_life", kHalfLife, rules.half_life);
  duration("foresight", kSpan, rules.foresight);
  duration("fill_limit", kSpan, rules.fill_limit);
  boolean("fair_share", rules.fair_share);
  boolean("backfill", rules.backfill);
  boolean("preemption", rules.preemption);
  if (const auto item = section.find("reservations"))
    rules.reservations = item->integer(kReservations).value_or(rules.reservations);
  if (const auto item = section.find("weights")) read_weights(*item, rules);
  if (const auto item = section.find("user_quota")) rules.user_quota = read_quota(*item);
  return rules;
}

std::vector<Account> read_accounts(const Value& value) {
  std::vector<Account> accounts;
  for (const NamedValue& member : value.members("a map such as {vision: {shares: 3}}")) {
    if (!has_room(member, accounts.size())) break;
    if (!check_name(member)) continue;
    const Section section(member.value, {"shares", "members", "quota"},
                          "a map such as {shares: 3, members: [anna, ben]}");
    Account account{.name = member.name, .place = member.value.key_place()};
    if (const auto item = section.find("shares"))
      account.shares = item->integer(kShares).value_or(1);
    if (const auto item = section.find("members")) account.members = read_members(*item);
    if (const auto item = section.find("quota")) {
      account.quota = read_quota(*item);
      if (account.quota->store_bytes)
        item->problem("store: what is kept counts for users alone; name it in users.NAME.quota or "
                      "queue.user_quota");
    }
    accounts.push_back(std::move(account));
  }
  return accounts;
}

std::vector<User> read_users(const Value& value) {
  std::vector<User> users;
  for (const NamedValue& member : value.members("a map such as {anna: {shares: 2}}")) {
    if (!has_room(member, users.size())) break;
    if (!check_user_name(member.value, member.name)) continue;
    const Section section(member.value, {"shares", "account", "quota"},
                          "a map such as {shares: 2, account: vision}");
    User user{.name = member.name, .place = member.value.key_place()};
    if (const auto item = section.find("shares")) user.shares = item->integer(kShares).value_or(1);
    if (const auto item = section.find("account"))
      user.account = read_name(*item, "an account of this file").value_or("");
    if (const auto item = section.find("quota")) user.quota = read_quota(*item);
    users.push_back(std::move(user));
  }
  return users;
}

void check_queue_rules(Reader& reader, const NodeConfig& config) {
  const auto check_quota = [&](Place place, const std::string& key,
                               const std::optional<QuotaLimits>& quota) {
    if (quota) check_devices(reader, place, key, names_of(quota->devices), config);
  };
  check_devices(reader, config.queue.place, "queue.weights", names_of(config.queue.device_points), config);
  check_quota(config.queue.place, "queue.user_quota", config.queue.user_quota);
  std::vector<std::string> names;
  for (const Account& account : config.accounts) {
    names.push_back(account.name);
    check_quota(account.place, join_key("accounts", account.name) + ".quota", account.quota);
  }
  for (const User& user : config.users) {
    const std::string key = join_key("users", user.name);
    check_quota(user.place, key + ".quota", user.quota);
    if (user.account.empty() || user.account == kDefaultAccount) continue;
    const auto account = std::find_if(config.accounts.begin(), config.accounts.end(),
                                      [&](const Account& one) { return one.name == user.account; });
    if (account == config.accounts.end())
      reader.problem(user.place, key + ".account",
                     quoted(user.account) + " is none of accounts:" +
                         did_you_mean(user.account, names));
    else if (account->members && std::find(account->members->begin(), account->members->end(),
                                           user.name) == account->members->end())
      reader.problem(user.place, key + ".account",
                     quoted(user.name) + " is no member of account " + quoted(user.account));
  }
}

Json to_json(const QueueRules& rules) {
  Json devices = Json::object();
  for (const auto& [name, points] : rules.device_points) devices.set(name, points);
  return Json::object({{"half_life_ms", milliseconds(rules.half_life)},
                       {"foresight_ms", milliseconds(rules.foresight)},
                       {"fill_limit_ms", milliseconds(rules.fill_limit)},
                       {"reservations", rules.reservations},
                       {"fair_share", rules.fair_share},
                       {"backfill", rules.backfill},
                       {"preemption", rules.preemption},
                       {"weights", Json::object({{"cpus", rules.cpu_points},
                                                 {"memory", rules.memory_gib_points},
                                                 {"gpus", rules.gpu_points},
                                                 {"devices", std::move(devices)}})},
                       {"user_quota", to_json(rules.user_quota)}});
}

Json to_json(const std::vector<Account>& accounts) {
  Json all = Json::object();
  for (const Account& one : accounts)
    all.set(one.name,
            Json::object({{"shares", one.shares},
                          {"members", one.members ? Json::array_of(*one.members) : Json()},
                          {"quota", to_json(one.quota)}}));
  return all;
}

Json to_json(const std::vector<User>& users) {
  Json all = Json::object();
  for (const User& one : users)
    all.set(one.name, Json::object({{"shares", one.shares},
                                    {"account", one.account.empty() ? Json() : Json(one.account)},
                                    {"quota", to_json(one.quota)}}));
  return all;
}

}  // namespace loam::spec
