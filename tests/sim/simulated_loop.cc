#include "simulated_loop.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>

#include "world.h"

namespace loam::node {

using simulation::World;

Loop::Loop() : impl_(std::make_unique<Impl>()) {}
Loop::~Loop() = default;
void Loop::post(std::function<void()> task) { impl_->posted.push_back(std::move(task)); }
void Loop::on_turn_end(std::function<void()> flush) { impl_->turn_end.push_back(std::move(flush)); }
void Loop::offload(std::function<void()> work, std::function<void()> done) {
  impl_->offloaded.emplace_back(std::move(work), std::move(done));
}

Loop::Timer Loop::after(std::chrono::milliseconds delay, std::function<void()> task) {
  auto timed = std::make_shared<Impl::Timed>(
      Impl::Timed{World::current()->steady_ms + delay.count(), std::move(task)});
  impl_->timers.push_back(timed);
  return timed;
}

Loop::Watch Loop::watch_readable(int fd, std::function<void()> ready) {
  auto watched = std::make_shared<Impl::Watched>(Impl::Watched{fd, std::move(ready)});
  impl_->watches.push_back(watched);
  return {static_cast<void*>(watched.get()), [watched](void*) { watched->ended = true; }};
}

void Loop::Impl::end_turn() {
  for (const auto& flush : turn_end) flush();
}

bool Loop::Impl::step() {
  World& world = *World::current();
  std::erase_if(watches, [](const auto& weak) {
    const auto watched = weak.lock();
    return !watched || watched->ended;
  });
  std::erase_if(timers, [](const auto& weak) { return weak.expired(); });
  std::vector<std::shared_ptr<Watched>> ready;
  std::vector<pollfd> polls;
  for (const auto& weak : watches) polls.push_back({weak.lock()->fd, POLLIN, 0});
  const timespec at_once{0, 0};
  if (!polls.empty() && ::ppoll(polls.data(), polls.size(), &at_once, nullptr) > 0)
    for (std::size_t i = 0; i < polls.size(); ++i)
      if (polls[i].revents != 0) ready.push_back(watches[i].lock());
  std::vector<std::shared_ptr<Timed>> due;
  for (const auto& weak : timers)
    if (const auto timed = weak.lock(); timed->due_ms <= world.steady_ms) due.push_back(timed);

  const std::size_t choices =
      (posted.empty() ? 0 : 1) + offloaded.size() + ready.size() + due.size();
  if (choices == 0) return false;
  std::size_t choice = world.random.below(choices);
  if (!posted.empty() && choice-- == 0) {
    const auto task = std::move(posted.front());
    posted.pop_front();
    task();
  } else if (choice < offloaded.size()) {
    auto [work, done] = std::move(offloaded[choice]);
    offloaded.erase(offloaded.begin() + static_cast<std::ptrdiff_t>(choice));
    work();
    posted.push_back(std::move(done));
  } else if ((choice -= offloaded.size()) < ready.size()) {
    ready[choice]->ready();
  } else {
    const auto timed = due[choice - ready.size()];
    timed->due_ms = INT64_MAX;
    const auto task = std::move(timed->task);
    task();
  }
  return true;
}

void Loop::Impl::cut_a_connection() {
  if (watches.empty()) return;
  const auto watched = watches[World::current()->random.below(watches.size())].lock();
  if (!watched || watched->ended) return;
  if (::shutdown(watched->fd, SHUT_RDWR) == 0) World::current()->say("a connection is cut");
}

}  // namespace loam::node
