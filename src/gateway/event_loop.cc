#include "gateway/event_loop.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/clock.h"

namespace loam::gateway {
namespace {

constexpr std::size_t kEventsPerTurn = 64;

}  // namespace

Result<EventLoop> EventLoop::create() {
  EventLoop loop;
  loop.epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!loop.epoll_) return fail_errno("epoll_create1");
  return loop;
}

Result<void> EventLoop::add(int fd, std::uint32_t events, OnEvents on_events) {
  const Watched watched = {++generation_, std::make_shared<OnEvents>(std::move(on_events))};
  epoll_event event{};
  event.events = events;
  event.data.u64 = std::uint64_t{watched.generation} << 32 | static_cast<std::uint32_t>(fd);
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return fail_errno("epoll_ctl add");
  watched_[fd] = watched;
  return {};
}

void EventLoop::change(int fd, std::uint32_t events) {
  const auto found = watched_.find(fd);
  LOAM_ASSERT(found != watched_.end());
  epoll_event event{};
  event.events = events;
  event.data.u64 = std::uint64_t{found->second.generation} << 32 | static_cast<std::uint32_t>(fd);
  LOAM_ASSERT(::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) == 0);
}

void EventLoop::remove(int fd) {
  if (watched_.erase(fd) != 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

EventLoop::TimerId EventLoop::after(Nanoseconds delay, std::function<void()> action) {
  const TimerId id = {steady_ns() + delay.count(), ++timer_number_};
  timers_.emplace(id, std::move(action));
  return id;
}

void EventLoop::cancel(TimerId& timer) {
  timers_.erase(timer);
  timer = {};
}

void EventLoop::later(std::function<void()> action) { later_.push_back(std::move(action)); }

int EventLoop::timeout_ms() const {
  if (!later_.empty()) return 0;
  if (timers_.empty()) return -1;
  const std::int64_t left_ns = timers_.begin()->first.due_ns - steady_ns();
  return static_cast<int>(std::clamp<std::int64_t>((left_ns + 999'999) / 1'000'000, 0, 60'000));
}

void EventLoop::fire_timers() {
  const std::int64_t now_ns = steady_ns();
  while (!timers_.empty() && timers_.begin()->first.due_ns <= now_ns) {
    auto timer = timers_.extract(timers_.begin());
    timer.mapped()();
  }
}

void EventLoop::run_later() {
  const auto actions = std::exchange(later_, {});
  for (const auto& action : actions) action();
}

void EventLoop::run() {
  std::array<epoll_event, kEventsPerTurn> events;
  while (!stopped_) {
    const int count = ::epoll_wait(epoll_.get(), events.data(), kEventsPerTurn, timeout_ms());
    LOAM_ASSERT(count >= 0 || errno == EINTR);
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      const auto found = watched_.find(static_cast<int>(event.data.u64 & 0xFFFFFFFFu));
      if (found == watched_.end() || found->second.generation != event.data.u64 >> 32) continue;
      const auto on_events = found->second.on_events;
      (*on_events)(event.events);
    }
    fire_timers();
    run_later();
  }
}

}  // namespace loam::gateway
