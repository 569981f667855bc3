#include "gateway/gateway.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "base/files.h"
#include "base/log.h"
#include "gateway/route.h"

namespace loam::gateway {

Result<std::unique_ptr<Gateway>> Gateway::open(const std::string& endpoint_folder) {
  EventLoop loop = LOAM_TRY(EventLoop::create());
  auto log = trace::RequestLogWriter::open(endpoint_folder + "/requests");
  if (!log) return in_context("request log", log.error());
  std::unique_ptr<Gateway> gateway(new Gateway(endpoint_folder, std::move(loop), std::move(*log)));
  LOAM_CHECK(gateway->watch_signals());
  gateway->plan_watch_ =
      LOAM_TRY(PlanWatch::open(gateway->loop_, endpoint_folder + "/plan", [self = gateway.get()] {
        if (const auto followed = self->follow_plan(); !followed) {
          self->error_ = followed.error().text;
          log_error(self->error_);
          self->changed();
        }
      }));
  return gateway;
}

Gateway::Gateway(std::string folder, EventLoop loop, trace::RequestLogWriter log)
    : folder_(std::move(folder)),
      loop_(std::move(loop)),
      journal_(loop_, std::move(log)),
      server_(loop_, *this) {}

Gateway::~Gateway() {
  if (signals_) loop_.remove(signals_.get());
}

Result<void> Gateway::run() {
  auto followed = follow_plan();
  // The node writes the plan before it starts us, but an empty one is no reason to fail.
  if (!followed && followed.error().code != ErrorCode::not_found) {
    error_ = followed.error().text;
    port_taken_ = followed.error().code == ErrorCode::exists;
    write_status();
    return followed;
  }
  loop_.run();
  models_.clear();
  write_status();
  return {};
}

Result<void> Gateway::watch_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  signals_ = Fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return fail_errno("signalfd");
  return loop_.add(signals_.get(), EPOLLIN, [this](std::uint32_t) {
    signalfd_siginfo info;
    while (::read(signals_.get(), &info, sizeof info) > 0) {
    }
    begin_stop();
  });
}

Result<void> Gateway::follow_plan() {
  if (stopping_) return {};
  const auto plan = LOAM_TRY(plan_watch_->read());
  if (plan.listen != listen_asked_) {
    LOAM_CHECK(server_.listen(plan.listen));
    listen_asked_ = plan.listen;
    log_info("listening on " + server_.listening());
  }
  error_.clear();
  apply(plan);
  changed();
  return {};
}

void Gateway::apply(const api::EndpointPlan& plan) {
  std::vector<std::unique_ptr<Model>> next;
  for (const api::ModelPlan& model : plan.models) {
    const auto same = [&](const auto& other) {
      return other && other->name() == model.name && other->version() == model.version;
    };
    const auto found = std::find_if(models_.begin(), models_.end(), same);
    if (found != models_.end()) {
      next.push_back(std::move(*found));
      next.back()->update(model);
    } else {
      next.push_back(std::make_unique<Model>(
          Model::Surroundings{loop_, journal_, folder_ + "/replicas", [this] { changed(); }},
          model));
    }
  }
  std::swap(models_, next);
  for (auto& model : next) {
    if (!model) continue;
    hand_over(*model);
    model->refuse_all("the model is no longer served here");
    // At the turn's end: it may have left things to do until then. shared_ptr for std::function's
    // sake.
    loop_.later([dying = std::shared_ptr<Model>(std::move(model))] {});
  }
}

// Where the workers of one version are gone before its place in the plan is, another may be ready.
void Gateway::move_waiting() {
  for (const auto& model : models_) {
    const Model* other = find(model->name(), "");
    if (model->ready_replicas() == 0 && other->ready_replicas() > 0) hand_over(*model);
  }
}

// Who waits for a model without asking for a version gets the one that is left.
void Gateway::hand_over(Model& gone) {
  Model* other = find(gone.name(), "");
  if (other == nullptr) return;
  for (const Model::Waiting& request : gone.hand_over()) {
    const auto route = parse_route(request.exchange->request.target);
    (!route || route->version.empty() ? *other : gone).take_over(request);
  }
}

void Gateway::begin_stop() {
  if (stopping_) return;
  stopping_ = true;
  log_info("stopping");
  loop_.after(kDrainTimeout, [this] {
    for (const auto& model : models_) model->refuse_all("the gateway is stopping");
    loop_.later([this] { loop_.stop(); });
  });
  go_on_stopping();
}

void Gateway::go_on_stopping() {
  constexpr std::chrono::milliseconds kLook{10};
  if (server_.drain()) return loop_.stop();
  stop_timer_ = loop_.after(kLook, [this] { go_on_stopping(); });
}

void Gateway::changed() {
  if (status_due_) return;
  status_due_ = true;
  loop_.later([this] {
    status_due_ = false;
    write_status();
    move_waiting();
  });
}

void Gateway::write_status() {
  Json status = Json::object();
  if (!error_.empty()) status.set("error", error_);
  if (port_taken_) status.set("port_taken", true);
  if (!server_.listening().empty() && !stopping_) status.set("listening", server_.listening());
  Json models = Json::array();
  for (const auto& model : models_) {
    const auto wanted = model->wanted_replicas();
    models.push(Json::object({{"name", model->name()},
                              {"version", model->version()},
                              {"ready", Json::array_of(model->ready_attempts())},
                              {"wanted", wanted ? Json(*wanted) : Json()},
                              {"spare", Json::array_of(model->spare_attempts())},
                              {"conflict", model->conflict()},
                              {"error", model->error().empty() ? Json() : Json(model->error())}}));
  }
  status.set("models", std::move(models));
  const auto written = write_file_atomic(folder_ + "/status/status.json", status.dump(),
                                         {.mode = 0644, .durable = false});
  if (!written) log_error("status: " + written.error().text);
}

}  // namespace loam::gateway
