// The inside of Loop: for the two translation units that speak Asio (loop.cc, http_server.cc).
#pragma once

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <deque>
#include <functional>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "node/loop.h"

namespace loam::node {

struct WorkerTask {
  std::function<void()> work;
  std::function<void()> done;
};

// Work that may wait on its user's own doing. The loop's alone.
struct UserWork {
  struct Lane {
    int running = 0;
    std::deque<std::pair<std::uint64_t, WorkerTask>> waiting;  // by order of arrival
  };
  std::map<std::uint32_t, Lane> lanes;
  int running = 0;
  std::uint64_t next = 0;
};

struct Loop::Impl {
  boost::asio::io_context io{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard{io.get_executor()};
  std::atomic<bool> stopping{false};
  std::vector<std::function<void()>> turn_end;
  UserWork user_work;

  Condition wake;
  Mutex mutex;
  std::deque<WorkerTask> tasks LOAM_GUARDED_BY(mutex);
  std::vector<std::thread> workers LOAM_GUARDED_BY(mutex);  // made when all are busy
  int idle LOAM_GUARDED_BY(mutex) = 0;
  bool closing LOAM_GUARDED_BY(mutex) = false;
};

}  // namespace loam::node
