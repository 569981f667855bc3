// The inside of Loop: for the two translation units that speak Asio (loop.cc, http_server.cc).
#pragma once

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "node/loop.h"

namespace loam::node {

struct WorkerTask {
  std::function<void()> work;
  std::function<void()> done;
};

struct Loop::Impl {
  boost::asio::io_context io{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard{io.get_executor()};
  std::atomic<bool> stopping{false};
  std::vector<std::function<void()>> turn_end;

  std::mutex mutex;  // guards all below
  std::condition_variable wake;
  std::deque<WorkerTask> tasks;
  std::vector<std::thread> workers;  // made when all are busy, up to kWorkersMax
  int idle = 0;
  bool closing = false;
};

}  // namespace loam::node
