// node/loop.h, implemented anew: one thing at a time, which one chance says. A worker's task is one
// step, its return to the loop another.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "node/loop.h"

namespace loam::node {

struct Loop::Impl {
  struct Watched {
    int fd;
    std::function<void()> ready;
    bool ended = false;
  };
  struct Timed {
    std::int64_t due_ms;
    std::function<void()> task;
  };
  std::deque<std::function<void()>> posted;
  std::vector<std::pair<std::function<void()>, std::function<void()>>> offloaded;
  std::vector<std::weak_ptr<Watched>> watches;
  std::vector<std::weak_ptr<Timed>> timers;
  std::vector<std::function<void()>> turn_end;

  bool step();  // false: nothing to do
  void end_turn();
  void cut_a_connection();  // both ends see it end
};

}  // namespace loam::node
