// `loam shell TARGET`: a terminal in a live attempt, as one more process of it, or in an ended one's
// environment and files, as they were.
#include <cstdlib>

#include "base/text.h"
#include "cli/command_run.h"
#include "cli/submission.h"
#include "cli/words.h"
#include "cli/verbs.h"

namespace loam::cli {
namespace {

Result<engines::Exchange::Upgraded> open_join(const engines::LocalNode& node,
                                              const std::string& target, const Json& body) {
  auto exchange = LOAM_TRY(node.open_upgrade("/v1/join/" + target, "loam-attach", body));
  std::string refusal;
  while (!exchange.has_head() || exchange.head().status != 101) {
    LOAM_CHECK(engines::await_readable(exchange.fd(), nullptr));
    if (!LOAM_TRY(exchange.read(refusal))) continue;
    if (exchange.head().status == 101) break;
    return tl::unexpected(engines::error_of(
        {exchange.head().status, Json::parse(refusal).value_or(Json())}));
  }
  return exchange.take_upgraded();
}

// One more process in the running attempt. It ends with us, or with the job; the job goes on.
int join(Context& context, const engines::LocalNode& node, Signals& signals,
         const std::string& target, Json body) {
  body.erase("target");
  auto connection = open_join(node, target, body);
  if (!connection) return report(context, connection.error());
  const bool terminal = body["terminal"].as_bool();
  const AttachEnd end = run_attach_session(context.console, signals, std::move(*connection),
                                           {.terminal = terminal, .input = true});
  if (end.kind == AttachEnd::Kind::left) return end.status;
  if (end.kind == AttachEnd::Kind::lost) {
    context.console.warn("the connection to " + target + " is gone, and the shell with it");
    return kExitUnavailable;
  }
  const std::string error = printable(end.exit_record["error"].as_string());
  if (!error.empty()) context.console.warn(target + ": " + error);
  return status_of_exit(end.exit_record);
}

int open_shell(Context& context) {
  const std::string target = context.arguments.value("TARGET");
  const bool terminal = context.console.input_terminal();
  Json body = Json::object({{"target", target}, {"terminal", terminal}});
  if (const char* type = ::getenv("TERM"); terminal && type != nullptr && is_utf8(type))
    body.set("environment", Json::object({{"TERM", type}}));
  if (!context.arguments.command.empty())
    body.set("argv", Json::array_of(context.arguments.command));
  const auto node = connect_node(context);
  if (!node) return report(context, node.error());
  Signals signals;
  const Submitted submitted = submit(context.console, *node, signals, "/v1/shell", body, target);
  if (!submitted.live.empty()) return join(context, *node, signals, submitted.live, body);
  if (submitted.run == 0) return submitted.status;
  return watch_command(context.console, *node, signals,
                       {.run = submitted.run,
                        .terminal = terminal,
                        .input = true,
                        .interrupted = submitted.interrupted});
}

}  // namespace

Verb shell_verb() {
  Verb verb;
  verb.name = "shell";
  verb.summary = "a terminal in a live job, or in an ended attempt's environment and files";
  verb.positionals = {{"TARGET", "RUN[/STEP[/ATTEMPT]]"}};
  verb.takes_command = true;
  verb.examples =
      "loam shell 17                the last failed attempt of run 17, else its newest\n"
      "loam shell 17/train/2\n"
      "loam shell 17/train -- python3 -i train.py\n"
      "loam shell 18 -- nvidia-smi            job 18 runs: one more process in it";
  verb.run = open_shell;
  return verb;
}

}  // namespace loam::cli
