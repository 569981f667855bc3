// Parse, bootstrap, open, wire, recover, listen, run.
#include "node/node_main.h"

#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <optional>

#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "base/text.h"
#include "node/accounts.h"
#include "node/attempt_routes.h"
#include "node/backup.h"
#include "node/bootstrap.h"
#include "node/config.h"
#include "node/committed_responder.h"
#include "node/daemon.h"
#include "node/device_routes.h"
#include "node/disk_room.h"
#include "node/gate.h"
#include "node/node.h"
#include "node/node_routes.h"
#include "node/purge.h"
#include "node/runs.h"
#include "node/socket.h"
#include "node/token_routes.h"
#include "sandbox/device_lock.h"
#include "sandbox/cpuset.h"

namespace loam::node {
namespace {

// Written by the handler, read by the loop. Handlers and not a blocked mask: masks survive exec.
int g_signal_event = -1;
volatile std::sig_atomic_t g_reload_asked = 0;
volatile std::sig_atomic_t g_end_asked = 0;
bool g_on_terminal = false;
constexpr std::chrono::seconds kPauseLook{5};

void on_signal(int number) {
  // A node on a terminal ends with it; one without reads its configuration again, as daemons do.
  (number == SIGHUP && !g_on_terminal ? g_reload_asked : g_end_asked) = 1;
  const std::uint64_t one = 1;
  (void)!::write(g_signal_event, &one, sizeof one);
}

Result<Fd> catch_signals() {
  Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return fail_errno("eventfd");
  g_signal_event = event.get();
  g_on_terminal = ::isatty(STDIN_FILENO) == 1;
  struct sigaction action {};
  action.sa_flags = SA_RESTART;
  action.sa_handler = on_signal;
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) ::sigaction(number, &action, nullptr);
  action.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &action, nullptr);
  return event;
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
    LOAM_CHECK(wire());
    // From within the loop: what recovery writes is committed by its turn's end.
    loop_.post([this] { supervisor_->recover([this] { recovered(); }); });
    loop_.run();
    if (listening_) ::unlink(bootstrap_.context.paths.socket.c_str());
    // They live in the groups that are removed.
    gate_->stop();
    gpu_helper_->stop();
    helpers_.stop();
    supervisor_->stop_helper();
    sandbox::remove_cgroup_parents(bootstrap_.context.cgroups);
    return failed_ ? 1 : 0;
  }
  void tell_failure(const Error& error) { readiness_.failed(error.text); }

 private:
  Result<void> open() {
    NodeContext& context = bootstrap_.context;
    signals_ = LOAM_TRY(catch_signals());
    if (path_exists(context.paths.state + "/" + kRestoreMark))
      return fail(
          ErrorCode::unavailable,
          "restoring a backup into " + context.paths.state +
              " was cut short: run loam node restore again, or loam node uninstall --purge");
    config_ = LOAM_TRY(load_config(context.paths, context.identity));
    database_ = LOAM_TRY(Database::open(context.paths.database, migrations()));
    store_ = LOAM_TRY(store::Store::open(context.paths.store));
    LOAM_CHECK(helpers_.start());
    context.cgroups = LOAM_TRY(recorded_cgroups(*database_, context));
    // First: the group that is joined then has only what pinned jobs of before leave it.
    hardware_ = read_hardware();
    if (auto joined = sandbox::join_shared_cpus(context.cgroups); !joined)
      log_warning("pinned jobs will not have their CPUs alone: " + joined.error().text);
    return {};
  }

  Result<void> wire() {
    const NodeContext& context = bootstrap_.context;
    devices_.emplace(loop_, *database_, device_events());
    gpu_helper_.emplace(loop_, GpuHelper::Events{[this](const Json& event) { befell_gpu(event); },
                                                 [this] { look_for_gpus(); }});
    if (auto started = gpu_helper_->configure(config_.config.gpus.library, false); !started)
      log_warning("GPUs: " + started.error().text);
    devices_->found_gpus(gpu_inventory(gpu_helper_->questions()), gpu_helper_->questions());
    devices_->configure(config_.config);
    if (auto made = sandbox::make_lock_folder(devices_->lock_folder()); !made)
      log_warning("devices cannot be handed out: " + made.error().text);
    shared_cpus_.emplace(context.cgroups);
    sched::Machine machine =
        LOAM_TRY(machine_for(config_, hardware_, devices_->for_scheduler(), devices_->links()));
    supervisor_.emplace(
        loop_, *database_, context,
        Supervisor::Events{
            [this](AttemptId id) { attempt_routes_->on_running(id), runs_->on_running(id); },
            [this](AttemptId id, const api::ExitRecord& record, bool reboot) {
              attempt_routes_->on_exit(id);
              runs_->on_exit(id, record, reboot);
            },
            [this](AttemptId lane, const std::vector<std::pair<AttemptId, JobId>>& tasks) {
              runs_->on_returned(lane, tasks);
            }});
    queue_.emplace(std::move(machine), policy_for(config_.config), queue_events(),
                   steady_time_of_day());
    node_.emplace(Node{loop_, *database_, *store_, *supervisor_, *queue_, *devices_,
                       *shared_cpus_, helpers_, context, std::move(hardware_), std::move(config_),
                       host_facts(),
                       sandbox::probe_guards(sandbox::to_json(context.cgroups)), wall_ms(),
                       boot_id()});
    runs_.emplace(*node_);
    attempt_routes_.emplace(*node_, *runs_);
    node_routes_.emplace(*node_, *runs_,
                         NodeRoutes::Actions{[this] { end(); }, [this] { return reload(); }});
    device_routes_.emplace(*node_, *runs_);
    tokens_.emplace(
        *database_,
        [this](std::uint32_t uid, const auto& found) {
          auto member = std::make_shared<Result<Tokens::Member>>();
          loop_.offload_for(uid, [uid, member] { *member = look_up_member(uid); },
                            [member, found] { found(std::move(*member)); });
        },
        token_clock);
    token_routes_.emplace(*tokens_, [this](std::int64_t token) { server_->close_token(token); });
    gate_.emplace(loop_, node_->context.identity, [this](RemoteClient client) {
      if (server_) server_->take(std::move(client));
    });
    runs_->add_routes(routes_);
    attempt_routes_->add_routes(routes_);
    device_routes_->add_routes(routes_);
    token_routes_->add_routes(routes_);
    node_routes_->add_routes(routes_);
    loop_.on_turn_end([this] { commit(); });
    signal_watch_ = loop_.watch_readable(signals_.get(), [this] {
      std::uint64_t count = 0;
      (void)!::read(signals_.get(), &count, sizeof count);
      if (g_reload_asked != 0) {
        g_reload_asked = 0;
        if (auto reloaded = reload(); !reloaded)
          log_error("the configuration stays as it was: " + reloaded.error().text);
      }
      if (g_end_asked != 0) {
        g_end_asked = 0;
        end();
      }
    });
    return {};
  }

  Queue::Events queue_events() {
    return {[this](JobId job, sched::TaskId, const sched::Placement&) { runs_->on_granted(job); },
            [this](JobId victim, sched::TaskId, JobId beneficiary) {
              runs_->on_preempt(victim, beneficiary);
            },
            [this] { loop_.post([this] { queue_->on_time(); }); },
            [this] { return refusal_by_disk(bootstrap_.context.paths.state); },
            [this] {
              if (pause_ == nullptr) pause_ = loop_.after(kPauseLook, [this] { look_at_pause(); });
            }};
  }

  void look_at_pause() {
    pause_.reset();
    queue_->on_time();
  }

  Json host_facts() const {
    Json facts = devices::read_host_facts();
    facts.set("accelerators", devices_->facts());
    return facts;
  }

  Devices::Events device_events() {
    return {[this](const std::string& device, sched::DeviceState state, const std::string& reason) {
              if (queue_) queue_->set_device(device, state, reason);
            },
            [this] { return queue_ && queue_->state().waiting.size() > 0; }};
  }

  void befell_gpu(const Json& event) {
    if (event.has("no_events"))
      return log_warning("errors of GPUs will not be noticed: " + event["no_events"].as_string());
    if (devices_) devices_->befell_gpu(event);
  }

  // The driver is asked by a worker: it may take its time.
  void look_for_gpus() {
    auto found = std::make_shared<Result<devices::GpuInventory>>();
    loop_.offload([found, questions = gpu_helper_->questions()] { *found = gpu_inventory(questions); },
                  [this, found] {
                    devices_->found_gpus(std::move(*found), gpu_helper_->questions());
                    use_devices();
                  });
  }

  void use_devices() {
    devices_->configure(node_->config.config);
    node_->host_facts.set("accelerators", devices_->facts());
    queue_->set_machine(*machine_for(node_->config, node_->hardware, devices_->for_scheduler(),
                                     devices_->links()));
  }

  // All of it or nothing.
  Result<void> reload() {
    const NodeContext& context = bootstrap_.context;
    LoadedConfig config = LOAM_TRY(load_config(context.paths, context.identity));
    (void)LOAM_TRY(machine_for(config, node_->hardware, {}));
    LOAM_CHECK(gate_->configure(config.config.listen));
    node_->config = std::move(config);
    queue_->set_policy(policy_for(node_->config.config));  // nothing more is given by the old one
    use_devices();
    if (auto started = gpu_helper_->configure(node_->config.config.gpus.library, devices_->gpu_error().empty());
        !started)
      log_warning("GPUs: " + started.error().text);
    look_for_gpus();
    log_info("read " + node_->config.path +
             (node_->config.present ? "" : ", which is not there: defaults"));
    return {};
  }

  void recovered() {
    runs_->resume();
    // Before anybody can connect: who starts a node that cannot work is to hear why.
    if (auto kept = database_->commit_turn(); !kept) return give_up(kept.error());
    if (auto open = gate_->configure(node_->config.config.listen); !open) return give_up(open.error());
    auto listener = listen_at(bootstrap_.context.paths, bootstrap_.context.identity);
    if (!listener) return give_up(listener.error());
    listening_ = true;
    set_room_aside(bootstrap_.context.paths);
    server_.emplace(loop_, std::move(*listener),
                    [this](const Request& request, ResponderPtr responder) {
                      routes_.dispatch(request, committed(*database_, std::move(responder)));
                    });
    server_->set_remote(
        {.authenticate = [this](std::string_view token, const std::string& address, auto answer) {
          tokens_->admit(token, address, std::move(answer));
        },
         .allowed = [this](const Request& request) { return routes_.allowed(request); }});
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
    tell_service_manager("STOPPING=1");
    server_ ? server_->finish([this] { loop_.stop(); }) : loop_.stop();
  }

  Bootstrap bootstrap_;
  Readiness readiness_;
  Fd signals_;
  LoadedConfig config_;  // until the node has it, as the next
  Hardware hardware_;
  Loop loop_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<store::Store> store_;
  std::optional<Supervisor> supervisor_;
  std::optional<Queue> queue_;
  UserHelpers helpers_;
  std::optional<Devices> devices_;
  std::optional<GpuHelper> gpu_helper_;
  std::optional<SharedCpus> shared_cpus_;
  std::optional<Node> node_;
  std::optional<Runs> runs_;
  std::optional<AttemptRoutes> attempt_routes_;
  std::optional<DeviceRoutes> device_routes_;
  std::optional<NodeRoutes> node_routes_;
  std::optional<Tokens> tokens_;
  std::optional<TokenRoutes> token_routes_;
  std::optional<Gate> gate_;
  Routes routes_;
  std::optional<HttpServer> server_;
  Loop::Watch signal_watch_;
  Loop::Timer pause_;  // while something waits for room on the disk
  bool listening_ = false;
  bool ending_ = false;
  bool failed_ = false;
};

int usage() {
  std::fputs("usage: loam node run [--daemon]\n", stderr);
  return 2;
}

int run_node(bool background) {
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

int print_done(const Result<std::vector<std::string>>& done) {
  if (!done) std::fprintf(stderr, "loam: %s\n", done.error().text.c_str());
  for (const std::string& line : done ? *done : std::vector<std::string>{}) std::puts(line.c_str());
  return done ? 0 : 1;
}

}  // namespace

int node_main(const std::vector<std::string>& arguments) {
  const std::string verb = arguments.empty() ? "" : arguments[0];
  const std::vector<std::string> options(arguments.begin() + (arguments.empty() ? 0 : 1),
                                         arguments.end());
  const auto given = [&](const char* option) {
    return options == std::vector<std::string>{option};
  };
  if (verb == "run" && (options.empty() || given("--daemon"))) return run_node(!options.empty());
  if (verb == "purge" && (options.empty() || given("--force")))
    return print_done(purge({.force = !options.empty()}));
  if (verb == "restore" && options.size() == 1) return print_done(restore_backup(options[0]));
  return usage();
}

}  // namespace loam::node
