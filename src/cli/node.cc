// `loam node`: the daemon that this user's commands talk to.
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "cli/node_verbs.h"
#include "cli/on.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

constexpr std::int64_t kStopLimitNs = 60'000'000'000;
constexpr std::int64_t kDyingLimitNs = 3'000'000'000;
constexpr int kStopPollMs = 20;

int start(Context& context) {
  engines::StartOptions options;
  bool started = false;
  options.on_started = [&](const std::string&) { started = true; };
  auto node = engines::find_or_start_node(options);
  auto state = node ? node->call("GET", "/v1/node") : tl::unexpected(node.error());
  // A node that was killed a moment ago still has its socket and its lock: it is gone soon.
  for (const std::int64_t limit_ns = steady_ns() + kDyingLimitNs;
       !state && steady_ns() < limit_ns;) {
    ::poll(nullptr, 0, kStopPollMs);
    node = engines::find_or_start_node(options);
    state = node ? node->call("GET", "/v1/node") : tl::unexpected(node.error());
  }
  if (!state) return report(context, state.error());
  context.console.print((started ? "started" : "already runs") + std::string(": node ") +
                        plain_text((*state)["pid"]) + " at " + node->socket());
  return kExitOk;
}

int stop(Context& context) {
  const auto node = engines::find_node();
  if (!node) {
    context.console.print("no node runs");
    return node.error().code == ErrorCode::unavailable ? kExitOk : report(context, node.error());
  }
  const auto stopped = stop_node(*node, {.jobs = context.arguments.flag("jobs")});
  if (!stopped) return report(context, stopped.error());
  context.console.print("stopped");
  return kExitOk;
}

// On a box, whose bridge has started one, it is there.
Result<engines::LocalNode> find_without_start(Context& context) {
  return context.arguments.has(kOn) ? connect_node(context) : engines::find_node();
}

std::string socket_of(const Context& context, const engines::LocalNode& node) {
  return context.box ? context.box->node_socket() : node.socket();
}

void print_state(Console& console, const std::string& socket, const Json& state) {
  console.print("node     " + plain_text(state["version"]) + ", process " +
                plain_text(state["pid"]) + ", up " +
                format_age(state["started_ms"].as_int(), wall_ms()) +
                (state["rootless"].as_bool() ? ", rootless" : "") +
                (state["single_id"].as_bool() ? ", single id (base: host only)" : ""));
  if (state["version"].as_string() != LOAM_VERSION)
    console.print("         this program is " LOAM_VERSION
                  ": loam node stop, then start (jobs go on)");
  console.print("socket   " + printable(socket));
  console.print("state    " + plain_text(state["state"]));
  const Json& config = state["config"];
  console.print("config   " + plain_text(config["file"]) +
                (config["present"].as_bool() ? "" : " (not there: all defaults)"));
  const Json& reserve = config["in_force"]["reserve"];
  if (reserve["cpu_milli"].as_int() != 0 || reserve["memory_bytes"].as_int() != 0)
    console.print("reserved " + format_cpus(reserve["cpu_milli"].as_int()) + " CPUs, " +
                  format_bytes(reserve["memory_bytes"]));
  std::vector<std::string> accounts;
  for (const auto& [name, account] : config["in_force"]["accounts"].as_object())
    accounts.push_back(printable(name));
  if (!accounts.empty()) console.print("accounts " + join(accounts, ", "));
  const Json& capacity = state["capacity"];
  const Json& used = state["used"];
  console.print("CPUs     " + format_cpus(used["cpu_milli"].as_int()) + " of " +
                plain_text(capacity["cpus"]) + " given");
  console.print("memory   " + format_bytes(used["memory_bytes"]) + " of " +
                format_bytes(capacity["memory_bytes"]) + " given");
  console.print("jobs     " + plain_text(state["jobs"]["running"]) + " running, " +
                plain_text(state["jobs"]["waiting"]) + " waiting");
  for (const Json& guard : state["guards"].as_array())
    if (!guard["present"].as_bool())
      console.print("missing  " + plain_text(guard["name"]) + ": " + plain_text(guard["finding"]) +
                    " (loam doctor)");
}

int status(Context& context) {
  const auto node = find_without_start(context);
  if (!node) return report(context, node.error());
  auto state = node->call("GET", "/v1/node");
  if (!state) return report(context, state.error());
  if (context.json()) {
    state->set("socket", socket_of(context, *node));
    context.console.print_text(state->pretty() + "\n");
  } else {
    print_state(context.console, socket_of(context, *node), *state);
  }
  return kExitOk;
}

int reload(Context& context) {
  const auto node = find_without_start(context);
  if (!node) return report(context, node.error());
  const auto config = node->call("POST", "/v1/node/reload");
  if (!config) return report(context, config.error());
  context.console.print("read " + plain_text((*config)["file"]) +
                        ((*config)["present"].as_bool() ? "" : ", which is not there: defaults"));
  return kExitOk;
}

}  // namespace

// Until the process is gone: it holds the state's lock for a moment after its last answer.
Result<void> stop_node(const engines::LocalNode& node, const StopOptions& options) {
  const Json state = LOAM_TRY(node.call("GET", "/v1/node"));
  const Fd process(
      static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(state["pid"].as_int()), 0)));
  LOAM_CHECK(node.call("POST", "/v1/node/stop", Json::object({{"stop_jobs", options.jobs}})));
  pollfd ended{process.get(), POLLIN, 0};
  for (const std::int64_t limit_ns = steady_ns() + kStopLimitNs; steady_ns() < limit_ns;) {
    const bool gone = ::poll(&ended, 1, kStopPollMs) == 1 && (ended.revents & POLLIN) != 0;
    if (gone || (!process && !node.request("GET", "/v1/node"))) return {};
  }
  return fail(ErrorCode::busy, "the node still runs after a minute; its log says why");
}

Verb node_verb() {
  Verb start_verb{"start", "start it where none runs", "loam node start", {}, {}, false, start, {}};
  Verb stop_verb{"stop",
                 "end it; running jobs go on and are found again",
                 "loam node stop\nloam node stop --jobs",
                 {{"--jobs", "", "end all jobs and services first"}},
                 {},
                 false,
                 stop,
                 {}};
  Verb status_verb{"status",
                   "what it has to give and what it gives",
                   "loam node status --json",
                   {json_option()},
                   {},
                   false,
                   status,
                   {}};
  Verb reload_verb{"reload",
                   "reads its configuration again; a file with problems changes nothing",
                   "loam node reload",
                   {},
                   {},
                   false,
                   reload,
                   {}};
  // Its words are read by the daemon itself (cli.cc); here for help and completion.
  Verb run_node{"run",
                "be the node, in the foreground (for service managers)",
                "loam node run",
                {{"--daemon", "", "in the background"}},
                {},
                false,
                [](Context& context) { return context.node.main({"run"}); },
                {}};
  Verb verb;
  verb.name = "node";
  verb.summary = "the daemon that runs jobs here: start, stop, reload, install, backup, …";
  verb.examples = "loam node status\nloam node stop";
  verb.verbs = {start_verb,         stop_verb,           status_verb,
                reload_verb,        node_install_verb(), node_uninstall_verb(),
                node_backup_verb(), node_restore_verb(), run_node};
  for (Verb& child : verb.verbs) child.here_only = child.name != "status" && child.name != "reload";
  return verb;
}

}  // namespace loam::cli
