#include "node/loop.h"

#include <pthread.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/result.h"
#include "node/loop_impl.h"

namespace loam::node {
namespace {

namespace asio = boost::asio;

// A turn handles at most this many ready handlers, so that a busy client cannot hold back the
// commit that another one waits for.
constexpr int kHandlersInTurnMax = 128;

// Shared with the pending asynchronous operation, which may complete after the handle is dropped.
struct TimerState {
  explicit TimerState(asio::io_context& io) : timer(io) {}
  asio::steady_timer timer;
  std::function<void()> task;
};

struct WatchState : std::enable_shared_from_this<WatchState> {
  WatchState(asio::io_context& io, int fd) : descriptor(io, fd) {}
  asio::posix::stream_descriptor descriptor;
  std::function<void()> ready;
  bool ended = false;

  void wait() {
    descriptor.async_wait(asio::posix::stream_descriptor::wait_read,
                          [self = shared_from_this()](const boost::system::error_code& error) {
                            if (error || self->ended) return;
                            self->ready();
                            if (!self->ended) self->wait();
                          });
  }
  void end() {
    if (ended) return;
    ended = true;
    (void)descriptor.release();  // out of the reactor; the descriptor stays the caller's
  }
};

void work(Loop::Impl& impl) {
  ::pthread_setname_np(::pthread_self(), "loam-worker");
  MutexLock lock(impl.mutex);
  for (;;) {
    while (impl.tasks.empty() && !impl.closing) {
      ++impl.idle;
      impl.wake.wait(lock);
      --impl.idle;
    }
    if (impl.closing) return;
    WorkerTask task = std::move(impl.tasks.front());
    impl.tasks.pop_front();
    lock.unlock();
    task.work();
    task.work = nullptr;  // what it holds dies here, not on the loop
    asio::post(impl.io, std::move(task.done));
    lock.lock();
  }
}

// The waiting task that came first among those whose users have a worker left.
void start_user_work(Loop& loop) {
  UserWork& users = loop.impl().user_work;
  while (users.running < kWorkersMax - kOwnWorkersMin) {
    auto first = users.lanes.end();
    for (auto lane = users.lanes.begin(); lane != users.lanes.end(); ++lane)
      if (!lane->second.waiting.empty() && lane->second.running < kUserWorkersMax &&
          (first == users.lanes.end() ||
           lane->second.waiting.front().first < first->second.waiting.front().first))
        first = lane;
    if (first == users.lanes.end()) return;
    WorkerTask task = std::move(first->second.waiting.front().second);
    first->second.waiting.pop_front();
    ++first->second.running;
    ++users.running;
    loop.offload(std::move(task.work), [&loop, uid = first->first, done = std::move(task.done)] {
      UserWork& now = loop.impl().user_work;
      const auto lane = now.lanes.find(uid);
      --now.running;
      if (--lane->second.running == 0 && lane->second.waiting.empty()) now.lanes.erase(lane);
      start_user_work(loop);
      done();
    });
  }
}

}  // namespace

Loop::Loop() : impl_(std::make_unique<Impl>()) {}

Loop::~Loop() {
  {
    const MutexLock lock(impl_->mutex);
    impl_->closing = true;
  }
  impl_->wake.notify_all();
  for (std::thread& worker : impl_->workers) worker.join();
}

void Loop::run() {
  while (!impl_->stopping) {
    impl_->io.run_one();
    for (int i = 1; i < kHandlersInTurnMax && impl_->io.poll_one() > 0; ++i) {
    }
    for (const auto& flush : impl_->turn_end) flush();
  }
  impl_->stopping = false;  // it may be run again
}

void Loop::stop() {
  impl_->stopping = true;
  asio::post(impl_->io, [] {});
}

void Loop::post(std::function<void()> task) { asio::post(impl_->io, std::move(task)); }

void Loop::on_turn_end(std::function<void()> flush) { impl_->turn_end.push_back(std::move(flush)); }

Loop::Timer Loop::after(std::chrono::milliseconds delay, std::function<void()> task) {
  auto state = std::make_shared<TimerState>(impl_->io);
  state->task = std::move(task);
  state->timer.expires_after(delay);
  state->timer.async_wait([weak = std::weak_ptr(state)](const boost::system::error_code& error) {
    const auto alive = weak.lock();
    if (error || !alive) return;
    const auto run = std::move(alive->task);
    run();
  });
  return state;
}

Loop::Watch Loop::watch_readable(int fd, std::function<void()> ready) {
  auto state = std::make_shared<WatchState>(impl_->io, fd);
  state->ready = std::move(ready);
  state->wait();
  // The handle's own owner count: dropping the last one ends the watch, whatever operation is
  // pending.
  return {static_cast<void*>(state.get()), [state](void*) { state->end(); }};
}

void Loop::offload(std::function<void()> work_function, std::function<void()> done) {
  {
    const MutexLock lock(impl_->mutex);
    impl_->tasks.push_back({std::move(work_function), std::move(done)});
    if (impl_->idle < static_cast<int>(impl_->tasks.size()) && impl_->workers.size() < kWorkersMax)
      impl_->workers.emplace_back([impl = impl_.get()] { work(*impl); });
  }
  impl_->wake.notify_one();
}

void Loop::offload_for(std::uint32_t uid, std::function<void()> work_function,
                       std::function<void()> done) {
  UserWork& users = impl_->user_work;
  users.lanes[uid].waiting.emplace_back(users.next++,
                                        WorkerTask{std::move(work_function), std::move(done)});
  start_user_work(*this);
}

}  // namespace loam::node
