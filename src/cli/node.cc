// `loam node`: the daemon that this user's commands talk to.
#include <poll.h>

#include "base/clock.h"
#include "base/text.h"
#include "cli/verbs.h"
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
  for (const std::int64_t limit_ns = steady_ns() + kDyingLimitNs; !state && steady_ns() < limit_ns;) {
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
  const auto answer = node->call("POST", "/v1/node/stop",
                                 Json::object({{"stop_jobs", context.arguments.flag("jobs")}}));
  if (!answer) return report(context, answer.error());
  for (const std::int64_t limit_ns = steady_ns() + kStopLimitNs; steady_ns() < limit_ns;) {
    if (!node->request("GET", "/v1/node")) {
      context.console.print("stopped");
      return kExitOk;
    }
    ::poll(nullptr, 0, kStopPollMs);
  }
  context.console.warn("the node still runs after a minute; its log says why");
  return kExitFailure;
}

void print_state(Console& console, const engines::LocalNode& node, const Json& state) {
  console.print("node     " + plain_text(state["version"]) + ", process " +
                plain_text(state["pid"]) + ", up " +
                format_age(state["started_ms"].as_int(), wall_ms()) +
                (state["rootless"].as_bool() ? ", rootless" : "") +
                (state["single_id"].as_bool() ? ", single id (base: host only)" : ""));
  console.print("socket   " + node.socket());
  console.print("state    " + plain_text(state["state"]));
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
  const auto node = engines::find_node();
  if (!node) return report(context, node.error());
  auto state = node->call("GET", "/v1/node");
  if (!state) return report(context, state.error());
  if (context.json()) {
    state->set("socket", node->socket());
    context.console.print_text(state->pretty() + "\n");
  } else {
    print_state(context.console, *node, *state);
  }
  return kExitOk;
}

}  // namespace

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
  // Its words are read by the daemon itself (cli.cc); here for help and completion.
  Verb run_node{"run",
                "be the node, in the foreground (for service managers)",
                "loam node run",
                {{"--daemon", "", "in the background"}},
                {},
                false,
                [](Context& context) { return context.node_main({}); },
                {}};
  Verb verb;
  verb.name = "node";
  verb.summary = "the daemon that runs jobs here: start, stop, status, run";
  verb.examples = "loam node status\nloam node stop";
  verb.verbs = {start_verb, stop_verb, status_verb, run_node};
  return verb;
}

}  // namespace loam::cli
