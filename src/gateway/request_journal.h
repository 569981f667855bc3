// The request log as the gateway uses it: one write per batch before its answers leave, fsync a
// second after something was written and never at rest.
#pragma once

#include <string>
#include <vector>

#include "gateway/event_loop.h"
#include "trace/request_log.h"

namespace loam::gateway {

class RequestJournal {
 public:
  RequestJournal(EventLoop& loop, trace::RequestLogWriter writer);
  ~RequestJournal();

  trace::RequestId next_id();
  // A failing disk does not stop serving: it is logged once, and again when it has recovered.
  void append(const std::vector<trace::RequestEntry>& entries);

 private:
  void sync();
  void report(const Result<void>& outcome);

  EventLoop& loop_;
  trace::RequestLogWriter writer_;
  trace::RequestIds ids_;
  EventLoop::TimerId sync_timer_;
  bool failing_ = false;
};

}  // namespace loam::gateway
