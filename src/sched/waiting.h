// Who waits, so that a decision looks only at claims that matter to it: by priority, then by
// association (user in account), then in classes of alike claims, each in order of arrival. A class
// stands for all its claims by the least that any of them asks for: where that cannot start now,
// none of them can, and the class is passed over in one look, however many wait in it.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "sched/layout.h"
#include "sched/usage.h"

namespace loam::sched {

using ClassId = std::uint32_t;
using Slot = std::uint32_t;  // of an entry in State::entries

struct Arrival {
  std::uint64_t number = 0;  // 1, 2, … as submitted
  Slot slot = 0;
  auto operator<=>(const Arrival&) const = default;
};

// Claims of one class and association. Those up to `tested_through` were looked at in `epoch` and
// could not start; until something is given back, nothing has changed for them.
struct Line {
  std::set<Arrival> claims;
  std::uint64_t tested_epoch = 0;
  std::uint64_t tested_through = 0;  // its number
};

// A set of classes, a bit each: that two have one in common is seen 64 at a time.
using ClassBits = std::vector<std::uint64_t>;

// Of one association and priority.
struct Lines {
  std::map<ClassId, Line> by_class;
  std::set<Arrival> arrivals;  // of all of them
  ClassBits occupied;
  std::uint64_t tested_epoch = 0;  // of `tested`: lines of which every claim was looked at
  ClassBits tested;
};

// No claim of the class asks for less than this.
struct ClassFloor {
  Need need;
  std::int64_t limit_ms = 0;  // 0: no claim of this class has a limit
  std::vector<std::int64_t> pieces;
};

class Waiting {
 public:
  using Level = std::map<FairShare::Index, Lines>;
  using Levels = std::map<std::int32_t, Level, std::greater<>>;

  // The class of such claims; made where there is none yet.
  ClassId class_of(const Need& need, std::int64_t limit_ms, const Layout& layout);
  const ClassFloor& floor(ClassId id) const { return floors_[id]; }
  std::size_t classes() const { return floors_.size(); }
  // Classes in which somebody waits and whose least amounts are within these.
  std::vector<ClassId> classes_within(std::int64_t cpu_milli, std::int64_t memory_bytes) const;

  struct Place {
    std::int32_t priority = 0;
    FairShare::Index association = 0;
    ClassId class_id = 0;
    Arrival arrival;
  };
  // `need`, `limit_ms`: the claim's, of which class_of made the place.
  void insert(const Place& place, const Need& need, std::int64_t limit_ms);
  void erase(const Place& place);
  bool contains(const Place& place) const;
  std::size_t size() const { return size_; }
  const Levels& levels() const { return levels_; }
  // The claim was looked at in this epoch and could not start.
  void mark_tested(const Place& place, std::uint64_t epoch);
  void clear();

 private:
  Lines* find_lines(const Place& place);
  void lower_floor(ClassId id, const Need& need, std::int64_t limit_ms);
  Levels levels_;
  std::size_t size_ = 0;
  std::vector<ClassFloor> floors_;
  std::vector<std::int64_t> least_cpu_, least_memory_;  // of floors_, side by side to be scanned
  std::vector<std::size_t> waiting_in_;                 // claims, by class
  std::map<std::vector<std::int64_t>, ClassId> classes_;
};

}  // namespace loam::sched
