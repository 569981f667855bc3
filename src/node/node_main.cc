// Parse, bootstrap, open, wire, recover, listen, run.
#include "node/node_main.h"

#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdio>
#include <optional>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "node/attempt_routes.h"
#include "node/bootstrap.h"
#include "node/committed_responder.h"
#include "node/daemon.h"
#include "node/node.h"
#include "node/node_routes.h"
#include "node/runs.h"
#include "node/socket.h"

namespace loam::node {
namespace {

// Written by the handler, read by the loop. Handlers and not a blocked mask: masks survive exec.
int g_signal_event = -1;

void on_signal(int) {
  const std::uint64_t one = 1;
  (void)!::write(g_signal_event, &one, sizeof one);
}

Result<Fd> catch_signals() {
  Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return fail_errno("eventfd");
  g_signal_event = event.get();
  struct sigaction action {};
  action.sa_flags = SA_RESTART;
  action.sa_handler = on_signal;
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) ::sigaction(number, &action, nullptr);
  action.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &action, nullptr);
  return event;
}

std::vector<std::string> whole_schema() {
  std::vector<std::string> schema = facts_schema();
  for (const auto& part : {Supervisor::schema(), Runs::schema()})
    schema.insert(schema.end(), part.begin(), part.end());
  return schema;
}

// The running daemon: its parts in the order in which they are made. Nothing of it is torn down but
// what another process would miss: a node may be killed at any time, so ending is only a polite
// kill.
class Daemon {
 public:
  Daemon(Bootstrap made, Readiness readiness)
      : bootstrap_(std::move(made)), readiness_(std::move(readiness)) {}

  Result<int> run() {
    LOAM_CHECK(open());
    wire();
    // From within the loop: what recovery writes is committed by its turn's end.
    loop_.post([this] { supervisor_->recover([this] { recovered(); }); });
    loop_.run();
    if (listening_) ::unlink(bootstrap_.context.paths.socket.c_str());
    sandbox::remove_cgroup_parents(bootstrap_.context.cgroups);
    return failed_ ? 1 : 0;
  }
  void tell_failure(const Error& error) { readiness_.failed(error.text); }

 private:
  Result<void> open() {
    NodeContext& context = bootstrap_.context;
    signals_ = LOAM_TRY(catch_signals());
    database_ = LOAM_TRY(Database::open(context.paths.database, whole_schema()));
    store_ = LOAM_TRY(store::Store::open(context.paths.store));
    context.cgroups = LOAM_TRY(recorded_cgroups(*database_, context));
    return {};
  }

  void wire() {
    const NodeContext& context = bootstrap_.context;
    const devices::Capacity capacity = devices::read_capacity();
    supervisor_.emplace(
        loop_, *database_, context,
        Supervisor::Events{
            [this](AttemptId id) { attempt_routes_->on_running(id), runs_->on_running(id); },
            [this](AttemptId id, const api::ExitRecord& record, bool reboot) {
              attempt_routes_->on_exit(id);
              runs_->on_exit(id, record, reboot);
            }});
    queue_.emplace(sched::Amount{std::uint64_t{capacity.cpus} * 1000, capacity.memory_bytes},
                   [this](JobId job) { runs_->on_granted(job); });
    node_.emplace(Node{loop_, *database_, *store_, *supervisor_, *queue_, context, capacity,
                       devices::read_host_facts(),
                       sandbox::probe_guards(sandbox::to_json(context.cgroups)), wall_ms(),
                       boot_id()});
    runs_.emplace(*node_);
    attempt_routes_.emplace(*node_, *runs_);
    node_routes_.emplace(*node_, *runs_, [this] { end(); });
    runs_->add_routes(routes_);
    attempt_routes_->add_routes(routes_);
    node_routes_->add_routes(routes_);
    loop_.on_turn_end([this] { commit(); });
    signal_watch_ = loop_.watch_readable(signals_.get(), [this] {
      std::uint64_t count = 0;
      (void)!::read(signals_.get(), &count, sizeof count);
      end();
    });
  }

  void recovered() {
    runs_->resume();
    auto listener = listen_at(bootstrap_.context.paths, bootstrap_.context.identity);
    if (!listener) return give_up(listener.error());
    listening_ = true;
    server_.emplace(loop_, std::move(*listener),
                    [this](const Request& request, ResponderPtr responder) {
                      routes_.dispatch(request, committed(*database_, std::move(responder)));
                    });
    log_info("listening on " + bootstrap_.context.paths.socket + ", state in " +
             bootstrap_.context.paths.state);
    readiness_.ready();
  }

  // Fail-stop: what could not be made durable has not happened; the next start finds the last
  // consistent state.
  void commit() {
    if (auto committed_turn = database_->commit_turn(); !committed_turn && !failed_)
      give_up(committed_turn.error());
  }

  void give_up(const Error& error) {
    failed_ = true;
    log_error(error.text);
    if (server_) server_->fail_all(error);
    readiness_.failed(error.text);
    loop_.stop();
  }

  void end() {
    if (std::exchange(ending_, true)) return loop_.stop();  // the second time at once
    log_info("stopping; running attempts go on");
    server_ ? server_->finish([this] { loop_.stop(); }) : loop_.stop();
  }

  Bootstrap bootstrap_;
  Readiness readiness_;
  Fd signals_;
  Loop loop_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<store::Store> store_;
  std::optional<Supervisor> supervisor_;
  std::optional<Queue> queue_;
  std::optional<Node> node_;
  std::optional<Runs> runs_;
  std::optional<AttemptRoutes> attempt_routes_;
  std::optional<NodeRoutes> node_routes_;
  Routes routes_;
  std::optional<HttpServer> server_;
  Loop::Watch signal_watch_;
  bool listening_ = false;
  bool ending_ = false;
  bool failed_ = false;
};

int usage() {
  std::fputs("usage: loam node run [--daemon]\n", stderr);
  return 2;
}

}  // namespace

int node_main(const std::vector<std::string>& arguments) {
  bool background = false;
  for (const std::string& argument : arguments) {
    if (argument != "--daemon") return usage();
    background = true;
  }
  Readiness readiness;
  if (background) {
    auto daemonized = daemonize();
    if (!daemonized) return log_error(daemonized.error().text), 1;
    if (daemonized->parent) return daemonized->status;
    readiness = std::move(daemonized->readiness);
  }
  auto made = bootstrap();
  Result<void> logged;
  if (made && background) logged = log_to(made->context.paths.log, made->context.identity);
  if (!made || !logged) {
    const std::string text = made ? logged.error().text : made.error().text;
    readiness.failed(text);
    if (!background) log_error(text);
    return 1;
  }
  // Lives until the process ends.
  auto* daemon = new Daemon(std::move(*made), std::move(readiness));
  const Result<int> status = daemon->run();
  if (!status) {
    log_error(status.error().text);
    daemon->tell_failure(status.error());
  }
  // Workers may hold a build for minutes; they and their children end with us (see Daemon).
  std::fflush(nullptr);
  ::_exit(status ? *status : 1);
}

}  // namespace loam::node
