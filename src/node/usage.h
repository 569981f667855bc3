// Who has had what of the machine: added up in the transaction that ends an attempt, so that nothing
// is counted twice or lost whenever the node dies. From these rows come `loam usage` and, at a
// node's start, fair share.
//
//   on_exit ─ record ─▶ usage (from, to, account, user, …) ─▶ totals, spans
//
// What held less than an hour is added to the hour in which it ended; what held longer is a row of
// its own. So there are as many rows as hours in which somebody worked, however many jobs ran.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "node/database.h"
#include "sched/usage.h"

namespace loam::node {

inline constexpr std::int64_t kUsageHourMs = 3'600'000;

struct UsageEntry {
  std::string account, user;
  std::int64_t started_ms = 0, ended_ms = 0;
  std::int64_t cpu_milli = 0, memory_mib = 0;
  std::map<std::string, std::int64_t> devices;  // by kind
  std::int64_t rate = 0;                        // thousandths of points an hour
};

// Of one user in one account.
struct UsageTotal {
  std::string account, user;
  std::int64_t attempts = 0;
  std::int64_t cpu_milli_ms = 0, memory_mib_ms = 0;
  std::map<std::string, std::int64_t> device_ms;  // by kind

  void add(const UsageEntry& entry, std::int64_t since_ms);
};

class Usage {
 public:
  explicit Usage(Database& database) : database_(database) {}

  // To be called once per attempt, in the turn that records its exit.
  void record(const UsageEntry& entry);
  // By account and user, from the hour of `since_ms` on; of what held longer than an hour, the part
  // that came after.
  std::vector<UsageTotal> totals(std::int64_t since_ms);
  // All that ended after `since_ms`.
  using Span = std::function<void(const std::string& account, const std::string& user,
                                  const sched::HeldSpan& span)>;
  void spans(std::int64_t since_ms, const Span& span);

 private:
  Database& database_;
};

// The beginning of its hour.
std::int64_t usage_hour(std::int64_t ms);

}  // namespace loam::node
