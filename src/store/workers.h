// A few threads that take tasks from a bounded queue: hashing on all cores with bounded memory and
// descriptors. Threads start as work comes, so that a small tree costs none too many. The first
// error ends the work: later tasks are dropped and put() and finish() return it.
//
// Threads: put() and finish() from one thread; the handler from many at once.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"
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
    MutexLock lock(mutex_);
    while (queue_.size() >= kQueueMax && !error_) space_.wait(lock);
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
      const MutexLock lock(mutex_);
      closing_ = true;
      work_.notify_all();
    }
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    const MutexLock lock(mutex_);
    if (error_) return tl::unexpected(*error_);
    return {};
  }

 private:
  void run() {
    ::pthread_setname_np(::pthread_self(), "loam-store");
    MutexLock lock(mutex_);
    for (;;) {
      ++idle_;
      while (!closing_ && queue_.empty()) work_.wait(lock);
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
  std::vector<std::thread> threads_;  // the caller's alone
  Condition work_;
  Condition space_;
  Mutex mutex_;
  std::deque<Task> queue_ LOAM_GUARDED_BY(mutex_);
  std::size_t idle_ LOAM_GUARDED_BY(mutex_) = 0;
  std::optional<Error> error_ LOAM_GUARDED_BY(mutex_);
  bool closing_ LOAM_GUARDED_BY(mutex_) = false;
};

}  // namespace loam::store
