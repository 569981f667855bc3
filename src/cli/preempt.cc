// `loam preempt TARGET…`: running jobs make room and go back into the queue.
#include "base/text.h"
#include "cli/verbs.h"

namespace loam::cli {
namespace {

int preempt_targets(Context& context) {
  const auto node = connect_node(context);
  if (!node) return report(context, node.error());
  int status = kExitOk;
  Json preempted = Json::array();
  for (const std::string& target : context.arguments.list("TARGET")) {
    const auto answer =
        node->call("POST", "/v1/preempt",
                   Json::object({{"target", target}, {"why", context.arguments.value("why")}}));
    if (!answer) {
      status = report(context, answer.error());
      continue;
    }
    for (const std::string& name : (*answer)["preempted"].as_strings()) {
      preempted.push(name);
      if (!context.json())
        context.console.print(printable(name) + " is to make room; it is queued again");
    }
  }
  if (context.json())
    context.console.print_text(Json::object({{"preempted", preempted}}).pretty() + "\n");
  return status;
}

}  // namespace

Verb preempt_verb() {
  Verb verb;
  verb.name = "preempt";
  verb.summary = "running jobs save, end, and are queued again";
  verb.positionals = {{"TARGET", "RUN or RUN/STEP", true, true}};
  verb.options = {{"--why", "TEXT", "the reason, for whoever looks at the job"}, json_option()};
  verb.examples = "loam preempt 17/train\nloam preempt 17 --why 'the demo needs the GPU'";
  verb.run = preempt_targets;
  return verb;
}

}  // namespace loam::cli
