// What attempts had of the machine, as rows (usage.h), as fair share after a start, and as hours.
#include <algorithm>
#include <charconv>

#include "base/clock.h"
#include "node/runs_impl.h"

namespace loam::node {
namespace {

constexpr std::uint64_t kMiB = 1u << 20;
constexpr double kHourMs = 3'600'000;
constexpr std::int64_t kSinceDefaultMs = 30LL * 24 * 3'600'000;

UsageTotal& total_of(std::vector<UsageTotal>& totals, const std::string& account,
                     const std::string& user) {
  const auto found = std::find_if(totals.begin(), totals.end(), [&](const UsageTotal& one) {
    return one.account == account && one.user == user;
  });
  if (found != totals.end()) return *found;
  totals.push_back({.account = account, .user = user});
  return totals.back();
}

Json total_json(const UsageTotal& total, const std::vector<sched::UsageRow>& standing) {
  Json devices = Json::object();
  for (const auto& [kind, ms] : total.device_ms)
    devices.set(kind, static_cast<double>(ms) / kHourMs);
  std::int64_t amount = 0;
  for (const sched::UsageRow& row : standing)
    if (row.account == total.account && row.user == total.user) amount = row.amount;
  return Json::object(
      {{"account", total.account},
       {"user", total.user},
       {"attempts", total.attempts},
       {"cpu_hours", static_cast<double>(total.cpu_milli_ms) / 1000 / kHourMs},
       {"memory_gib_hours", static_cast<double>(total.memory_mib_ms) / 1024 / kHourMs},
       {"device_hours", std::move(devices)},
       {"points", static_cast<double>(amount) / 1000 / kHourMs}});
}

}  // namespace

// From the commit of its start, for it holds its place from then on.
UsageEntry Runs::Impl::usage_of(const RunRow& run, const JobRow& job, const AttemptView& attempt) {
  const sched::Claim claim = claim_of(run, job);
  const std::int64_t ranks = std::max<std::int64_t>(claim.ranks, 1);
  UsageEntry entry{.account = claim.account,
                   .user = claim.user,
                   .started_ms = attempt.created_ms,
                   .ended_ms = node.queue.now_ms(),
                   .cpu_milli = ranks * static_cast<std::int64_t>(claim.rank.cpu_milli),
                   .memory_mib = ranks * static_cast<std::int64_t>(claim.rank.memory_bytes / kMiB)};
  for (const sched::DeviceRequest& device : claim.rank.devices)
    if (device.kind != kHugePageKind) entry.devices[device.kind] += ranks * device.count;
  entry.rate = node.queue.rate_of(claim, placement_from(attempt.placement));
  return entry;
}

void Runs::Impl::record_usage(const JobRow& job, const AttemptView& attempt,
                              const api::ExitRecord& exit) {
  const auto run = job.kind == "gateway" ? std::nullopt : tables.run(job.run);
  if (!run) return;
  UsageEntry entry = usage_of(*run, job, attempt);
  if (exit.ended_ms != 0) entry.ended_ms = exit.ended_ms;
  // Found lost at a node's start it may have ended long before, with the machine.
  if (exit.outcome == api::Outcome::lost && !resumed)
    entry.ended_ms = std::min(entry.ended_ms, last_sign_of_life(job, attempt));
  usage.record(entry);
}

void Runs::Impl::restore_usage() {
  const std::int64_t half_life_ms = node.queue.state().policy.half_life_ms;
  usage.spans(node.queue.now_ms() - sched::kHalfLivesCounted * half_life_ms,
              [this](const std::string& account, const std::string& user,
                     const sched::HeldSpan& span) {
                node.queue.restore_usage(account, user, span);
              });
}

void Runs::Impl::adopt_usage(const RunRow& run, const JobRow& job, const AttemptView& attempt) {
  const UsageEntry entry = usage_of(run, job, attempt);
  node.queue.restore_usage(
      entry.account, entry.user,
      {.amount = entry.rate * std::max<std::int64_t>(entry.ended_ms - entry.started_ms, 0),
       .from = entry.started_ms,
       .to = entry.ended_ms});
}

// With what runs, up to now.
std::vector<UsageTotal> Runs::Impl::usage_since(std::int64_t since_ms) {
  auto totals = usage.totals(since_ms);
  for (const JobRow& job : tables.jobs("state IN ('running','queued','preempted')")) {
    const auto attempt = last_attempt(job.id);
    const auto run = attempt && attempt->state != "ended" && !attempt->in_lane() &&
                             job.kind != "gateway"
                         ? tables.run(job.run)
                         : std::nullopt;
    if (!run) continue;
    const UsageEntry entry = usage_of(*run, job, *attempt);
    total_of(totals, entry.account, entry.user).add(entry, since_ms);
  }
  return totals;
}

void Runs::Impl::usage_routes(Routes& routes) {
  routes.add("GET", "/v1/usage",
             [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
               const std::int64_t now = node.queue.now_ms();
               std::int64_t since_ms = now - kSinceDefaultMs;
               if (const auto asked = request.query.find("since_ms");
                   asked != request.query.end()) {
                 const std::string& text = asked->second;
                 const auto [end, error] =
                     std::from_chars(text.data(), text.data() + text.size(), since_ms);
                 if (error != std::errc() || end != text.data() + text.size() || since_ms < 0)
                   return responder->reply_error(
                       {ErrorCode::invalid, "since_ms: expected milliseconds since 1970"});
               }
               since_ms = usage_hour(since_ms);
               const auto standing = node.queue.state().fair_share.rows(now);
               Json list = Json::array();
               for (const UsageTotal& total : usage_since(since_ms))
                 list.push(total_json(total, standing));
               responder->reply(200, Json::object({{"since_ms", since_ms},
                                                   {"until_ms", now},
                                                   {"usage", std::move(list)},
                                                   {"store", store_use_json()}}));
             });
}

}  // namespace loam::node
