// `loam cancel TARGET…`: ends jobs that run or wait.
#include "base/text.h"
#include "cli/verbs.h"

namespace loam::cli {
namespace {

int cancel_targets(Context& context) {
  const auto node = connect_node(context);
  if (!node) return report(context, node.error());
  int status = kExitOk;
  Json cancelled = Json::array();
  for (const std::string& target : context.arguments.list("TARGET")) {
    const auto answer = node->call("POST", "/v1/cancel", Json::object({{"target", target}}));
    if (!answer) {
      status = report(context, answer.error());
      continue;
    }
    if (!context.json() && (*answer)["cancelled"].size() == 0)
      context.console.print(printable(target) + ": nothing of it is left to be cancelled");
    for (const std::string& name : (*answer)["cancelled"].as_strings()) {
      cancelled.push(name);
      if (!context.json()) context.console.print("cancelled " + printable(name));
    }
  }
  if (context.json())
    context.console.print_text(Json::object({{"cancelled", cancelled}}).pretty() + "\n");
  return status;
}

}  // namespace

Verb cancel_verb() {
  Verb verb;
  verb.name = "cancel";
  verb.summary = "end what runs or waits";
  verb.positionals = {{"TARGET", "RUN or RUN/STEP", true, true}};
  verb.options = {json_option()};
  verb.examples = "loam cancel 17\nloam cancel 17/train 18";
  verb.run = cancel_targets;
  return verb;
}

}  // namespace loam::cli
