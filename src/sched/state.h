// All that the scheduler knows. Changed by the events of sched.h alone; read by who shows it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "sched/claim.h"
#include "sched/explain.h"
#include "sched/layout.h"
#include "sched/links.h"
#include "sched/machine.h"
#include "sched/policy.h"
#include "sched/profile.h"
#include "sched/usage.h"
#include "sched/waiting.h"

namespace loam::sched {

// The tasks of an array that wait, as ranges: a million of them cost nothing.
class TaskSet {
 public:
  TaskSet() = default;
  explicit TaskSet(std::uint32_t tasks) {
    if (tasks > 0) ranges_[0] = tasks;
  }
  bool empty() const { return ranges_.empty(); }
  TaskId first() const { return ranges_.begin()->first; }
  void remove(TaskId task);  // where it is in
  void insert(TaskId task);
  std::uint32_t size() const;

 private:
  std::map<TaskId, TaskId> ranges_;  // first → one past the last
};

// One task that has been granted.
struct Holding {
  ClaimId claim = 0;
  TaskId task = 0;
  Slot entry = 0;
  Vector taken;
  Vector returns;  // what its end makes free: not what is drained or busy by then
  std::vector<std::pair<std::uint32_t, std::int64_t>> parts;  // device index → parts
  std::int64_t rate = 0;                                      // fair share's
  std::vector<std::int64_t> pieces;                           // by kind, as quotas count
  Placement placement;
  Time started = 0;
  Time ends = kForever;  // by its limit, or its grace
  bool preempted = false;
};

struct Entry {
  Claim claim;
  Need need;
  std::vector<std::int64_t> pieces;  // by kind
  Waiting::Place place;
  bool queued = false;         // stands in State::waiting
  std::set<ClaimId> went_for;  // was preempted for these, who wait still, and is not again
  TaskSet pending;
  std::map<TaskId, std::uint32_t> running;  // → index into State::holdings
};

// What a user or an account holds now, and may hold.
struct Held {
  std::int64_t cpu_milli = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t running = 0;
  std::vector<std::int64_t> pieces;  // by kind
  std::int64_t queued = 0;           // claims that have tasks waiting
  std::optional<Quota> quota;
  std::vector<std::int64_t> pieces_max;  // the quota's, by kind; kUnlimited where it says nothing
};

struct State {
  Machine machine;
  Policy policy;
  Layout layout;
  Links links;
  Vector free;    // of what is usable; below zero where adopted claims exceed it
  Vector usable;  // free on an empty machine
  std::vector<std::int64_t> parts_used;              // by device
  std::vector<bool> pinned;                          // by index of Machine::cpus
  std::map<std::uint32_t, std::uint32_t> cpu_index;  // the kernel's number → that index

  std::map<ClaimId, Slot> slots;
  std::vector<Entry> entries;
  std::vector<Slot> unused_entries;
  std::vector<Holding> holdings;
  std::vector<std::uint32_t> unused_holdings;
  std::set<std::tuple<Time, ClaimId, TaskId, std::uint32_t>> ends;  // of holdings that end
  // Who may be preempted, in the order in which it costs least: lowest priority, newest start.
  std::set<std::tuple<std::int32_t, Time, ClaimId, TaskId, std::uint32_t>> victims;

  Waiting waiting;
  FairShare fair_share;
  std::vector<Held> users;     // by FairShare's user index
  std::vector<Held> accounts;  // by its account index
  bool overcommitted = false;  // adopted claims exceed the machine (it shrank between two nodes)
  bool cut_short = false;      // the last decision: more is to be looked at
  std::uint64_t arrivals = 0;
  std::uint64_t epoch = 1;                // of Line::tested_epoch
  std::vector<Reservation> reservations;  // in order, of the last decision
  Time decided = 0;                       // when that was
  std::string paused;                     // why nothing is granted now, in a person's words; "": it is

  const Entry* find(ClaimId id) const;
  Entry* find(ClaimId id);
  bool waits(ClaimId id) const { return find(id) != nullptr && find(id)->queued; }
};

}  // namespace loam::sched
