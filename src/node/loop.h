// The node's one loop thread and its workers. Everything in node/ runs on the loop unless it says
// otherwise; slow things (hashing, builds, child processes that are waited for) go to a worker by
// `offload`, whose `done` runs on the loop again. At rest nothing wakes: no ticking timers.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "base/fd.h"

namespace loam::node {

class Loop {
 public:
  Loop();
  ~Loop();

  void run();                             // until stop()
  void stop();                            // from any thread
  void post(std::function<void()> task);  // from any thread
  // End of turn: `flush` runs after each batch of ready handlers, before the loop sleeps (the
  // database's one commit per turn, then the replies that waited for it).
  void on_turn_end(std::function<void()> flush);

  using Timer = std::shared_ptr<void>;  // dropping it cancels
  [[nodiscard]] Timer after(std::chrono::milliseconds delay, std::function<void()> task);
  using Watch = std::shared_ptr<void>;  // dropping it ends the watch; drop it before closing the fd
  [[nodiscard]] Watch watch_readable(int fd, std::function<void()> ready);

  // Runs `work` on a worker thread (at most kWorkersMax at once, then in order), `done` on the
  // loop.
  void offload(std::function<void()> work, std::function<void()> done);

  // As offload, for work that may wait on this user's own doing (a child with his ids, which he can
  // stop): a user's tasks take kUserWorkersMax workers at most, those of all users together leave
  // kOwnWorkersMin; what waits keeps its order. Call it on the loop.
  void offload_for(std::uint32_t uid, std::function<void()> work, std::function<void()> done);

  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

inline constexpr int kWorkersMax = 8;
inline constexpr int kUserWorkersMax = 2;  // for what may wait on one user's own doing
inline constexpr int kOwnWorkersMin = 2;   // never taken by such work: starts and exits go on

}  // namespace loam::node
