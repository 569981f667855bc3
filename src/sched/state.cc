#include "sched/state.h"

#include <iterator>

namespace loam::sched {

void TaskSet::remove(TaskId task) {
  auto range = ranges_.upper_bound(task);
  if (range == ranges_.begin()) return;
  range = std::prev(range);
  const auto [first, end] = *range;
  if (task >= end) return;
  ranges_.erase(range);
  if (first < task) ranges_[first] = task;
  if (task + 1 < end) ranges_[task + 1] = end;
}

void TaskSet::insert(TaskId task) {
  TaskId first = task, end = task + 1;
  auto after = ranges_.upper_bound(task);
  if (after != ranges_.begin()) {
    const auto before = std::prev(after);
    if (before->second > task) return;
    if (before->second == task) {
      first = before->first;
      ranges_.erase(before);
    }
  }
  if (after != ranges_.end() && after->first == end) {
    end = after->second;
    ranges_.erase(after);
  }
  ranges_[first] = end;
}

std::uint32_t TaskSet::size() const {
  std::uint32_t count = 0;
  for (const auto& [first, end] : ranges_) count += end - first;
  return count;
}

const Entry* State::find(ClaimId id) const {
  const auto found = slots.find(id);
  return found == slots.end() ? nullptr : &entries[found->second];
}

Entry* State::find(ClaimId id) {
  const auto found = slots.find(id);
  return found == slots.end() ? nullptr : &entries[found->second];
}

}  // namespace loam::sched
