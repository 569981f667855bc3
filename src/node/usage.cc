#include "node/usage.h"

#include <algorithm>

namespace loam::node {
namespace {

Json devices_json(const std::map<std::string, std::int64_t>& devices) {
  Json json = Json::object();
  for (const auto& [kind, count] : devices) json.set(kind, count);
  return json;
}

}  // namespace

std::int64_t usage_hour(std::int64_t ms) { return ms - ms % kUsageHourMs; }

void UsageTotal::add(const UsageEntry& entry, std::int64_t since_ms) {
  const std::int64_t held_ms = entry.ended_ms - std::max(entry.started_ms, since_ms);
  if (held_ms <= 0) return;
  ++attempts;
  cpu_milli_ms += entry.cpu_milli * held_ms;
  memory_mib_ms += entry.memory_mib * held_ms;
  for (const auto& [kind, count] : entry.devices) device_ms[kind] += count * held_ms;
}

void Usage::record(const UsageEntry& entry) {
  const std::int64_t held_ms = std::max<std::int64_t>(entry.ended_ms - entry.started_ms, 0);
  const bool is_short = held_ms < kUsageHourMs;
  const std::int64_t hour = usage_hour(entry.ended_ms);
  database_.write(
      "INSERT INTO usage(to_ms, from_ms, account, user, devices, attempts, held_ms, cpu_milli_ms, "
      "memory_mib_ms, rate_ms) VALUES(?,?,?,?,?,1,?,?,?,?) ON CONFLICT DO UPDATE SET attempts = "
      "attempts + 1, held_ms = held_ms + excluded.held_ms, cpu_milli_ms = cpu_milli_ms + "
      "excluded.cpu_milli_ms, memory_mib_ms = memory_mib_ms + excluded.memory_mib_ms, rate_ms = "
      "rate_ms + excluded.rate_ms",
      {is_short ? hour + kUsageHourMs : entry.ended_ms, is_short ? hour : entry.started_ms,
       entry.account, entry.user, devices_json(entry.devices).dump(), held_ms,
       entry.cpu_milli * held_ms, entry.memory_mib * held_ms, entry.rate * held_ms});
}

std::vector<UsageTotal> Usage::totals(std::int64_t since_ms) {
  // In floating point: a year of a large machine times an hour is more than 64 bits hold.
  const std::string part =
      "* (1.0 * (to_ms - MAX(from_ms, ?1)) / (to_ms - from_ms)) END AS INTEGER)";
  const auto cut = [&](const std::string& column) {
    return "SUM(CAST(CASE WHEN from_ms >= ?1 THEN " + column + " ELSE " + column + " " + part + ")";
  };
  std::vector<UsageTotal> totals;
  for (const Row& row : database_.query(
           "SELECT account, user, devices, SUM(attempts), " + cut("cpu_milli_ms") + ", " +
               cut("memory_mib_ms") + ", " + cut("held_ms") +
               " FROM usage WHERE to_ms > ?1 GROUP BY account, user, devices ORDER BY account, "
               "user",
           {usage_hour(since_ms)})) {
    if (totals.empty() || totals.back().account != row.text(0) || totals.back().user != row.text(1))
      totals.push_back({.account = row.text(0), .user = row.text(1)});
    UsageTotal& total = totals.back();
    total.attempts += row.integer(3);
    total.cpu_milli_ms += row.integer(4);
    total.memory_mib_ms += row.integer(5);
    const Json devices = row.json(2);
    for (const auto& [kind, count] : devices.as_object())
      total.device_ms[kind] += count.as_int() * row.integer(6);
  }
  return totals;
}

void Usage::spans(std::int64_t since_ms, const Span& span) {
  for (const Row& row : database_.query(
           "SELECT account, user, from_ms, to_ms, SUM(rate_ms) FROM usage WHERE to_ms > ? GROUP "
           "BY to_ms, from_ms, account, user",
           {since_ms}))
    span(row.text(0), row.text(1),
         {.amount = row.integer(4), .from = row.integer(2), .to = row.integer(3)});
}

}  // namespace loam::node
