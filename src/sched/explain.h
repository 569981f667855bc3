// Why a claim waits, and until when: as data, and as a line for people.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sched/claim.h"

namespace loam::sched {

struct State;

struct Reservation {
  ClaimId claim = 0;
  std::optional<Time> start;  // none: nobody can say
};

struct Shortage {
  std::string what;         // "CPU", "memory", or the kind of device
  std::string model;        // as asked for
  std::int64_t needed = 0;  // thousandths of CPUs, bytes, devices
  std::int64_t free = 0;
  std::int64_t total = 0;
  std::vector<std::string> out_of_service;  // "GPU-1 drained (Xid 79)"
};

struct Holder {
  ClaimId claim = 0;
  std::optional<Time> ends;  // by its limit
  bool preempted = false;    // ends soon: its grace runs
};

struct Explanation {
  bool waits = false;
  bool held = false;
  bool at_once_max = false;  // an array that has as many tasks running as it may
  std::string paused;        // why nothing starts at all now; then nothing else is said
  std::string quota;         // "anna holds 2 of 2 GPUs"; then nothing else is short
  std::string never;         // what the machine no longer has
  std::vector<Shortage> short_of;
  std::vector<Holder> holders;  // of what is short; the first to end first, at most kHoldersNamed
  std::size_t ahead = 0;
  bool ahead_at_least = false;  // there are more: it was not counted further
  ClaimId first_ahead = 0;      // 0: none
  std::optional<Time> expected_start;
  std::string unknown_why;  // where it has no expected start
};

inline constexpr std::size_t kHoldersNamed = 8;

// Who comes next, in order, and when, as far as limits tell: in thought each of the first `depth`
// claims that can run at all is promised its earliest start. Costs some µs a claim; made once, it
// serves to explain any number of claims.
struct Outlook {
  Time now = 0;
  std::vector<Reservation> order;
  std::map<ClaimId, std::size_t> place;  // in `order`
  bool complete = false;                 // nobody else waits behind these
};
Outlook look_ahead(const State& state, Time now, std::size_t depth);

Explanation explain(const State& state, ClaimId id, const Outlook& outlook);

// How a claim and a moment are written: "17/train", "14:20".
struct Wording {
  std::function<std::string(ClaimId)> claim;
  std::function<std::string(Time)> time;
};
// "2 of 4 GPUs free; behind 17/train until about 14:20"; "" where it does not wait.
std::string explanation_text(const Explanation& explanation, const Wording& wording);

}  // namespace loam::sched
