// A few threads that take tasks from a bounded queue: hashing on all cores with bounded memory and
// descriptors. Threads start as work comes, so that a small tree costs none too many. The first
// error ends the work: later tasks are dropped and put() and finish() return it.
//
// Threads: put() and finish() from one thread; the handler from many at once.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/result.h"

namespace loam::store {

inline constexpr std::size_t kWorkersMax = 16;
inline constexpr std::size_t kQueueMax =
    64;  // tasks waiting: at most this many descriptors or small files

template <class Task>
class Workers {
 public:
  explicit Workers(std::function<Result<void>(Task&)> handle) : handle_(std::move(handle)) {
    threads_max_ = std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, kWorkersMax);
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  ~Workers() { (void)finish(); }

  // Blocks while the queue is full.
  Result<void> put(Task task) {
    std::unique_lock lock(mutex_);
    space_.wait(lock, [&] { return queue_.size() < kQueueMax || error_; });
    if (error_) return tl::unexpected(*error_);
    queue_.push_back(std::move(task));
    if (idle_ < queue_.size() && threads_.size() < threads_max_)
      threads_.emplace_back([this] { run(); });
    work_.notify_one();
    return {};
  }

  // Waits until all is done; the first error.
  Result<void> finish() {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
      work_.notify_all();
    }
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    if (error_) return tl::unexpected(*error_);
    return {};
  }

 private:
  void run() {
    ::pthread_setname_np(::pthread_self(), "loam-store");
    std::unique_lock lock(mutex_);
    for (;;) {
      ++idle_;
      work_.wait(lock, [&] { return closing_ || !queue_.empty(); });
      --idle_;
      if (queue_.empty()) return;
      {
        Task task = std::move(queue_.front());
        queue_.pop_front();
        space_.notify_one();
        if (error_) continue;  // dropped
        lock.unlock();
        auto done = handle_(task);
        lock.lock();
        if (!done && !error_) error_ = std::move(done.error());
      }
      if (error_) space_.notify_all();
    }
  }

  std::function<Result<void>(Task&)> handle_;
  std::size_t threads_max_ = 1;
  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable space_;
  std::deque<Task> queue_;            // guarded by mutex_, as all below
  std::vector<std::thread> threads_;  // but for this: the caller's alone
  std::size_t idle_ = 0;
  std::optional<Error> error_;
  bool closing_ = false;
};

}  // namespace loam::store
