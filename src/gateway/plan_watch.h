// Tells when ENDPOINT/plan/plan.json has been replaced, and reads it.
#pragma once

#include <functional>
#include <string>

#include "api/endpoint.h"
#include "base/fd.h"
#include "base/result.h"
#include "gateway/event_loop.h"

namespace loam::gateway {

class PlanWatch {
 public:
  static Result<std::unique_ptr<PlanWatch>> open(EventLoop& loop, std::string folder,
                                                 std::function<void()> on_change);
  ~PlanWatch();

  // not_found where the node has not written one yet.
  Result<api::EndpointPlan> read() const;

 private:
  PlanWatch(EventLoop& loop, std::string folder, Fd inotify, std::function<void()> on_change);
  void on_events();

  EventLoop& loop_;
  std::string folder_;
  Fd inotify_;
  std::function<void()> on_change_;
};

}  // namespace loam::gateway
