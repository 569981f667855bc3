// The gateway: one project's endpoint. Routes requests to models, follows the plan, tells its
// status.
//
//   plan/plan.json ─inotify─▶ models ◀─route─ HTTP     models ─change─▶ status/status.json
//
// Protocol: docs/serving.md. Folder: src/api/endpoint.h. Threads: one, the loop's. Trust: the plan
// is the node's; clients and workers are foreign (http_server.h, worker.h).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/endpoint.h"
#include "base/fd.h"
#include "base/result.h"
#include "gateway/event_loop.h"
#include "gateway/http_server.h"
#include "gateway/model.h"
#include "gateway/plan_watch.h"
#include "gateway/request_journal.h"

namespace loam::gateway {

inline constexpr std::chrono::seconds kDrainTimeout{5};  // TERM: for what is in flight

class Gateway : private HttpHandler {
 public:
  // Opens everything but the endpoint.
  static Result<std::unique_ptr<Gateway>> open(const std::string& endpoint_folder);
  ~Gateway() override;

  // Serves until TERM or INT. An endpoint that cannot be had is an error, and in status.json.
  Result<void> run();

 private:
  explicit Gateway(std::string folder, EventLoop loop, trace::RequestLogWriter log);

  Result<void> watch_signals();
  Result<void> follow_plan();
  void apply(const api::EndpointPlan& plan);
  void move_waiting();
  void hand_over(Model& gone);
  void begin_stop();
  void go_on_stopping();
  void changed();
  void write_status();

  trace::RequestId next_id() override { return journal_.next_id(); }
  void arriving(const ExchangePtr& exchange) override;
  void handle(const ExchangePtr& exchange) override;
  void vanished(const ExchangePtr& exchange) override;

  HttpResponse respond_alone(const HttpRequest& request) const;
  HttpResponse model_metadata(const Model& model) const;
  bool ready() const;
  Model* find(std::string_view name, std::string_view version) const;
  Model* infer_target(const Exchange& exchange) const;

  std::string folder_;
  EventLoop loop_;
  RequestJournal journal_;
  HttpServer server_;
  std::unique_ptr<PlanWatch> plan_watch_;
  Fd signals_;
  std::vector<std::unique_ptr<Model>> models_;  // in the plan's order
  std::string listen_asked_;
  std::string error_;
  bool port_taken_ = false;
  bool status_due_ = false;
  bool stopping_ = false;
  EventLoop::TimerId stop_timer_;
};

}  // namespace loam::gateway
