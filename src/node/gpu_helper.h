// The node's side of the process that asks NVIDIA's driver (gpu_helper_main.h). Where the machine has
// no library of the driver's there is no process.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "base/fd.h"
#include "base/json.h"
#include "base/mutex.h"
#include "base/result.h"
#include "devices/gpus.h"
#include "node/loop.h"

namespace loam::node {

// Asks, from any thread, one question at a time.
class GpuQuestions {
 public:
  explicit GpuQuestions(Fd socket) : socket_(std::move(socket)) {}
  // unavailable where the driver does not answer in time, or the process has gone. While an earlier
  // question is not answered, at once: whoever asks would wait for the same call into the driver.
  Result<Json> ask(const std::string& question, std::chrono::milliseconds time);

 private:
  Result<Json> answer_until(std::int64_t until) LOAM_REQUIRES(mutex_);

  Mutex mutex_;
  Fd socket_ LOAM_GUARDED_BY(mutex_);
  std::int64_t last_id_ LOAM_GUARDED_BY(mutex_) = 0;
  bool unanswered_ LOAM_GUARDED_BY(mutex_) = false;
};

// What there is; no GPUs where there is no process. Waits for the driver.
Result<devices::GpuInventory> gpu_inventory(const std::shared_ptr<GpuQuestions>& questions);

class GpuHelper {
 public:
  struct Events {
    std::function<void(const Json& event)> befell;
    std::function<void()> again;  // another process answers, where one had died
  };
  GpuHelper(Loop& loop, Events events) : loop_(loop), events_(std::move(events)) {}

  // Starts the process for this library ("": the one that the system's loader finds, if any); goes on
  // with the one there is where that is `good` and the same.
  Result<void> configure(const std::string& library, bool good);
  void stop();
  // Null where there is no process. Workers hold it on their own.
  std::shared_ptr<GpuQuestions> questions() const { return questions_; }

 private:
  Result<void> start();
  void gone();
  void start_again();

  Loop& loop_;
  Events events_;
  std::string library_;  // "": none
  Child child_;
  Fd told_;
  std::shared_ptr<GpuQuestions> questions_;
  Loop::Watch telling_, ended_;
  Loop::Timer pause_;
};

}  // namespace loam::node
