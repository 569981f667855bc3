// A mutex whose use clang's thread-safety analysis proves (`cmake --preset tidy`): what is marked
// LOAM_GUARDED_BY(mutex) is touched only where the mutex is held, and a function marked
// LOAM_REQUIRES(mutex) is called only there. The standard library's own locks carry no such marks.
// Under GCC the marks are nothing.
//
// Source: https://clang.llvm.org/docs/ThreadSafetyAnalysis.html
#pragma once

#include <condition_variable>
#include <mutex>

#ifdef __clang__
#define LOAM_THREAD_SAFETY(mark) __attribute__((mark))
#else
#define LOAM_THREAD_SAFETY(mark)
#endif

#define LOAM_GUARDED_BY(mutex) LOAM_THREAD_SAFETY(guarded_by(mutex))
#define LOAM_REQUIRES(mutex) LOAM_THREAD_SAFETY(requires_capability(mutex))

namespace loam {

class LOAM_THREAD_SAFETY(capability("mutex")) Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

 private:
  friend class MutexLock;
  std::mutex mutex_;
};

// Holds a mutex from here to the end of the block, but for what lies between unlock() and lock().
class LOAM_THREAD_SAFETY(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) LOAM_THREAD_SAFETY(acquire_capability(mutex))
      : lock_(mutex.mutex_) {}
  ~MutexLock() LOAM_THREAD_SAFETY(release_capability()) = default;
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  void lock() LOAM_THREAD_SAFETY(acquire_capability()) { lock_.lock(); }
  void unlock() LOAM_THREAD_SAFETY(release_capability()) { lock_.unlock(); }

 private:
  friend class Condition;
  std::unique_lock<std::mutex> lock_;
};

// The caller waits in a loop of its own (`while (!ready) condition.wait(lock);`): the analysis does
// not see into a predicate.
class Condition {
 public:
  void wait(MutexLock& lock) { condition_.wait(lock.lock_); }
  void notify_one() { condition_.notify_one(); }
  void notify_all() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

}  // namespace loam
