// The gateway's one loop: descriptors by epoll, timers, and things to do at the end of the turn.
//
// Level-triggered. Threads: all of it on one thread. A callback may add and remove anything, itself
// too; an event that was already fetched for a removed descriptor is dropped (generations).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace loam::gateway {

using Nanoseconds = std::chrono::nanoseconds;

class EventLoop {
 public:
  using OnEvents = std::function<void(std::uint32_t events)>;  // EPOLLIN, ...
  struct TimerId {
    std::int64_t due_ns = 0;
    std::uint64_t number = 0;  // 0: none
    auto operator<=>(const TimerId&) const = default;
  };

  static Result<EventLoop> create();

  // The caller keeps fd open until remove().
  Result<void> add(int fd, std::uint32_t events, OnEvents on_events);
  void change(int fd, std::uint32_t events);
  void remove(int fd);

  TimerId after(Nanoseconds delay, std::function<void()> action);
  void cancel(TimerId& timer);
  // After the callbacks of this turn: for what may not happen inside one of them.
  void later(std::function<void()> action);

  void run();
  void stop() { stopped_ = true; }

 private:
  struct Watched {
    std::uint32_t generation = 0;
    std::shared_ptr<OnEvents> on_events;  // shared: alive while it runs, even if it removes itself
  };

  int timeout_ms() const;
  void fire_timers();
  void run_later();

  Fd epoll_;
  std::unordered_map<int, Watched> watched_;
  std::map<TimerId, std::function<void()>> timers_;
  std::vector<std::function<void()>> later_;
  std::uint32_t generation_ = 0;
  std::uint64_t timer_number_ = 0;
  bool stopped_ = false;
};

}  // namespace loam::gateway
