#include "sched/profile.h"

#include <algorithm>
#include <bit>

namespace loam::sched {
namespace {

// True where something became less.
bool lower_to(Vector& least, std::span<const std::int64_t> row) {
  bool lowered = false;
  for (std::size_t i = 0; i < least.size(); ++i)
    if (row[i] < least[i]) least[i] = row[i], lowered = true;
  return lowered;
}

}  // namespace

Time limit_end(Time start, std::int64_t limit_ms) {
  return limit_ms <= 0 || start >= kForever - limit_ms ? kForever : start + limit_ms;
}

Time planned_end(Time now, Time when) {
  if (when == kForever) return kForever;
  constexpr std::int64_t kStepsAnOctave = 64;
  when = std::max(when, now + kOverdueMs);
  const auto step = std::max(
      std::int64_t{1}, static_cast<std::int64_t>(std::bit_floor(
                           static_cast<std::uint64_t>((when - now) / kStepsAnOctave))));
  return (when + step - 1) / step * step;
}

void Profile::begin(Time now, std::span<const std::int64_t> free) {
  columns_ = free.size();
  times_.assign(1, now);
  rows_.assign(free.begin(), free.end());
  falls_.assign(1, false);
  floors_.clear();
}

void Profile::release(Time when, std::span<const std::int64_t> amounts) {
  if (times_.back() < when) {
    times_.push_back(when);
    falls_.push_back(false);
    rows_.resize(rows_.size() + columns_);
    std::copy_n(rows_.end() - static_cast<std::ptrdiff_t>(2 * columns_), columns_,
                rows_.end() - static_cast<std::ptrdiff_t>(columns_));
  }
  std::int64_t* last = rows_.data() + rows_.size() - columns_;
  for (std::size_t i = 0; i < columns_; ++i) last[i] += amounts[i];
}

Time Profile::end_of(Time start, std::int64_t limit_ms) const {
  return planned_end(now(), limit_end(start, limit_ms));
}

void Profile::find_floors() const {
  Vector least(row(0).begin(), row(0).end());
  floors_.push_back({times_[0], least});
  for (std::size_t step = 1; step < times_.size(); ++step)
    if (falls_[step] && lower_to(least, row(step))) floors_.push_back({times_[step], least});
}

bool Profile::fits_now(const Need& need, std::int64_t limit_ms) const {
  if (!fits(need, row(0))) return false;
  if (floors_.empty()) find_floors();
  const Time end = end_of(now(), limit_ms);
  const auto after = std::partition_point(floors_.begin(), floors_.end(),
                                          [&](const Floor& floor) { return floor.from < end; });
  return fits(need, std::prev(after)->least);
}

std::optional<Time> Profile::earliest(const Need& need, std::int64_t limit_ms) const {
  for (std::size_t step = 0; step < times_.size();) {
    if (!fits(need, row(step))) {
      ++step;
      continue;
    }
    const Time end = end_of(times_[step], limit_ms);
    Vector least;
    std::size_t wall = 0;  // a later step in which it no longer fits
    for (std::size_t later = step + 1; later < times_.size() && times_[later] < end; ++later) {
      if (!falls_[later]) continue;
      if (least.empty()) least.assign(row(step).begin(), row(step).end());
      if (!lower_to(least, row(later)) || fits(need, least)) continue;
      wall = later;
      break;
    }
    if (wall == 0) return times_[step];
    step = fits(need, row(wall)) ? step + 1 : wall;
  }
  return std::nullopt;
}

Vector Profile::least(Time start, Time end) const {
  const auto after = std::upper_bound(times_.begin(), times_.end(), start);
  std::size_t step = static_cast<std::size_t>(after - times_.begin());
  step = step == 0 ? 0 : step - 1;
  Vector least(row(step).begin(), row(step).end());
  for (++step; step < times_.size() && times_[step] < end; ++step)
    if (falls_[step]) lower_to(least, row(step));
  return least;
}

std::size_t Profile::step_at(Time when) {
  const auto found = std::lower_bound(times_.begin(), times_.end(), when);
  const auto step = found - times_.begin();
  if (found != times_.end() && *found == when) return static_cast<std::size_t>(step);
  times_.insert(found, when);
  falls_.insert(falls_.begin() + step, false);
  const std::vector<std::int64_t> before(row(static_cast<std::size_t>(step) - 1).begin(),
                                         row(static_cast<std::size_t>(step) - 1).end());
  rows_.insert(rows_.begin() + step * static_cast<std::ptrdiff_t>(columns_), before.begin(),
               before.end());
  return static_cast<std::size_t>(step);
}

void Profile::add(Time start, Time end, std::span<const std::int64_t> amounts, std::int64_t sign) {
  start = std::max(start, now());
  if (start >= end) return;
  const std::size_t first = step_at(start);
  const std::size_t last = end == kForever ? times_.size() : step_at(end);
  for (std::size_t step = first; step < last; ++step)
    for (std::size_t i = 0; i < columns_; ++i) rows_[step * columns_ + i] += sign * amounts[i];
  for (const std::size_t step : {first, last}) {
    if (step == 0 || step >= times_.size()) continue;
    const auto before = row(step - 1), here = row(step);
    bool fall = false;
    for (std::size_t i = 0; i < columns_; ++i) fall = fall || here[i] < before[i];
    falls_[step] = fall;
  }
  floors_.clear();
}

bool Profile::never_negative() const {
  return std::all_of(rows_.begin(), rows_.end(), [](std::int64_t amount) { return amount >= 0; });
}

}  // namespace loam::sched
