#include "gateway/batch_queue.h"

#include <algorithm>
#include <iterator>

namespace loam::gateway {

void BatchQueue::push(JobPtr job) {
  auto at = jobs_.end();
  while (at != jobs_.begin() && (*std::prev(at))->arrived_ns > job->arrived_ns) --at;
  jobs_.insert(at, std::move(job));
}

JobPtr BatchQueue::remove(const Exchange* exchange) {
  const auto found = std::find_if(jobs_.begin(), jobs_.end(), [&](const JobPtr& job) {
    return job->exchange.get() == exchange;
  });
  if (found == jobs_.end()) return nullptr;
  JobPtr job = std::move(*found);
  jobs_.erase(found);
  return job;
}

std::vector<JobPtr> BatchQueue::remove_all() {
  std::vector<JobPtr> all(std::make_move_iterator(jobs_.begin()),
                          std::make_move_iterator(jobs_.end()));
  jobs_.clear();
  wait_until_ns_ = 0;
  return all;
}

std::vector<JobPtr> BatchQueue::remove_overdue(std::int64_t now_ns) {
  std::vector<JobPtr> overdue;
  while (!jobs_.empty() && jobs_.front()->deadline_ns <= now_ns) {
    overdue.push_back(std::move(jobs_.front()));
    jobs_.pop_front();
  }
  return overdue;
}

std::size_t BatchQueue::fitting() const {
  std::uint64_t rows = 0;
  std::size_t count = 0;
  while (count < jobs_.size() && rows + jobs_[count]->infer.rows <= rows_max_)
    rows += jobs_[count++]->infer.rows;
  return count;
}

BatchQueue::Decision BatchQueue::decide(std::int64_t now_ns) {
  if (jobs_.empty()) return {};
  std::uint64_t rows = 0;
  const std::size_t count = fitting();
  for (std::size_t i = 0; i < count; ++i) rows += jobs_[i]->infer.rows;
  const bool full = rows == rows_max_ || count < jobs_.size();
  if (full || claims_.empty() || delay_max_ns_ == 0) return {.close = true};
  if (wait_until_ns_ == 0) wait_until_ns_ = now_ns + delay_max_ns_;
  if (now_ns < wait_until_ns_) return {.close = false, .wait_until_ns = wait_until_ns_};
  claims_.clear();
  return {.close = true};
}

std::vector<JobPtr> BatchQueue::close_batch() {
  const auto end = jobs_.begin() + static_cast<std::ptrdiff_t>(fitting());
  std::vector<JobPtr> batch(std::make_move_iterator(jobs_.begin()), std::make_move_iterator(end));
  jobs_.erase(jobs_.begin(), end);
  wait_until_ns_ = 0;
  return batch;
}

}  // namespace loam::gateway
