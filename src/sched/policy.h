// What an administrator decides: shares, quotas, weights. Everything has a default that suits one
// user on one box.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace loam::sched {

// How many claims, in order, get a reservation that nobody behind may delay. Each makes a decision
// longer; with 16 one stays under a millisecond on a large machine (docs/benchmarks.md).
inline constexpr std::uint32_t kReservations = 16;

inline constexpr std::int64_t kUnlimited = -1;

struct Quota {
  // Held at one time:
  std::int64_t cpu_milli = kUnlimited;
  std::int64_t memory_bytes = kUnlimited;
  std::int64_t running = kUnlimited;            // claims' tasks
  std::map<std::string, std::int64_t> devices;  // by kind
  // Waiting at one time:
  std::int64_t queued = kUnlimited;
};

struct Party {
  std::uint32_t shares = 1;
  std::optional<Quota> quota;  // none: a user's is user_default, an account has none
};

// Points per hour of what is held.
struct Weights {
  std::int64_t cpu_milli_points = 1000;        // of one CPU, thousandths of a point
  std::int64_t memory_gib_milli_points = 125;  // of one GiB: 8 GiB are worth a CPU
  std::int64_t gpu_milli_points = 16'000;      // of a whole GPU; a slice by its share of the memory
  std::map<std::string, std::int64_t> devices;  // others by kind; 1000 where none is given
};

struct Policy {
  std::map<std::string, Party> accounts;  // not named: one share, no quota
  std::map<std::string, Party> users;
  std::optional<Quota> user_default;  // of users who have none of their own
  Weights weights;
  std::int64_t half_life_ms = 7LL * 24 * 3600 * 1000;
  // What is held counts as if it had been held this long already, so that many claims that start
  // at once are spread over users before any usage has built up.
  std::int64_t foresight_ms = 3600 * 1000;
  // While nobody can say when a claim will start (no limits on those who hold what it needs),
  // claims behind it with at most this limit may use what it waits for.
  std::int64_t fill_limit_ms = 3600 * 1000;
  std::uint32_t reservations = kReservations;
  bool fair_share = true;
  bool backfill = true;
  bool preemption = true;
};

}  // namespace loam::sched
