// What is free from now on, as a staircase over time: running claims give back at their limits,
// reservations take from their start to theirs. The last step lasts for ever, so what is held
// without a limit never comes back.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "sched/layout.h"

namespace loam::sched {

inline constexpr Time kForever = std::numeric_limits<Time>::max();
// What should have ended by now (its limit, its grace) is taken to end this soon.
inline constexpr std::int64_t kOverdueMs = 1000;

// When something that ends at `when` is planned to have ended: within 2 % of the time until then,
// so that thousands of ends make hundreds of steps. Rounded up, to multiples of powers of two: as
// the moment comes nearer the answer only becomes earlier, and what ends before another is never
// rounded past it.
Time planned_end(Time now, Time when);
// kForever where there is no limit.
Time limit_end(Time start, std::int64_t limit_ms);

class Profile {
 public:
  // Starts anew with what is free at `now`.
  void begin(Time now, std::span<const std::int64_t> free);
  // In order of time, before anything else is asked: at `when` this comes back.
  void release(Time when, std::span<const std::int64_t> amounts);

  // The planned end of what starts at `start` and lasts `limit_ms` (0: for ever).
  Time end_of(Time start, std::int64_t limit_ms) const;
  bool fits_now(const Need& need, std::int64_t limit_ms) const;
  std::optional<Time> earliest(const Need& need, std::int64_t limit_ms) const;
  // The least that is free at any moment of [start, end).
  Vector least(Time start, Time end) const;
  void take(Time start, Time end, std::span<const std::int64_t> amounts) {
    add(start, end, amounts, -1);
  }
  void give(Time start, Time end, std::span<const std::int64_t> amounts) {
    add(start, end, amounts, 1);
  }

  Time now() const { return times_.front(); }
  bool never_negative() const;

 private:
  std::span<const std::int64_t> row(std::size_t step) const {
    return std::span(rows_).subspan(step * columns_, columns_);
  }
  std::size_t step_at(Time when);  // splits a step where none begins
  void add(Time start, Time end, std::span<const std::int64_t> amounts, std::int64_t sign);
  void find_floors() const;

  std::size_t columns_ = 0;
  std::vector<Time> times_;
  std::vector<std::int64_t> rows_;
  std::vector<bool> falls_;  // less is free than in the step before, in some column
  // The least free between now and a time, changing only where the staircase falls. Made when asked
  // for: decisions ask thousands of times between two changes.
  struct Floor {
    Time from = 0;
    Vector least;
  };
  mutable std::vector<Floor> floors_;
};

}  // namespace loam::sched
