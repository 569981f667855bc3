// `loam shell TARGET`: a terminal in an attempt's environment and files, as they were.
#include <cstdlib>

#include "base/text.h"
#include "cli/command_run.h"
#include "cli/submission.h"
#include "cli/verbs.h"

namespace loam::cli {
namespace {

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
  verb.summary = "a terminal in an attempt's environment and files, as they were";
  verb.positionals = {{"TARGET", "RUN[/STEP[/ATTEMPT]]"}};
  verb.takes_command = true;
  verb.examples =
      "loam shell 17                the last failed attempt of run 17, else its newest\n"
      "loam shell 17/train/2\n"
      "loam shell 17/train -- python3 -i train.py";
  verb.run = open_shell;
  return verb;
}

}  // namespace loam::cli
