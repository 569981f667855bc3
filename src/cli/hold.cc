// `loam hold TARGET…`, `loam release TARGET…`: jobs that do not start until they are let go.
#include "base/text.h"
#include "cli/verbs.h"

namespace loam::cli {
namespace {

struct Word {
  std::string path;
  std::string key;           // of the answer
  std::string of_a_running;  // what is said of a job that runs
};

int act_on_targets(Context& context, const Word& word) {
  const auto node = connect_node(context);
  if (!node) return report(context, node.error());
  int status = kExitOk;
  Json done = Json::array();
  for (const std::string& target : context.arguments.list("TARGET")) {
    const auto answer = node->call("POST", word.path, Json::object({{"target", target}}));
    if (!answer) {
      status = report(context, answer.error());
      continue;
    }
    for (const Json& job : (*answer)[word.key].as_array()) {
      done.push(job);
      if (!context.json())
        context.console.print(word.key + " " + printable(job["target"].as_string()) +
                              (job["running"].as_bool() ? word.of_a_running : ""));
    }
  }
  if (context.json())
    context.console.print_text(Json::object({{word.key, done}}).pretty() + "\n");
  return status;
}

Verb target_verb(const std::string& name, const std::string& summary, Word word) {
  Verb verb;
  verb.name = name;
  verb.summary = summary;
  verb.positionals = {{"TARGET", "RUN or RUN/STEP", true, true}};
  verb.options = {json_option()};
  verb.examples = "loam " + name + " 17\nloam " + name + " 17/train 18";
  verb.run = [word = std::move(word)](Context& context) { return act_on_targets(context, word); };
  return verb;
}

}  // namespace

Verb hold_verb() {
  return target_verb("hold", "jobs that wait do not start until they are released",
                     {"/v1/hold", "held", ": it runs on, and stays held once it waits again"});
}

Verb release_verb() {
  return target_verb("release", "held jobs may start", {"/v1/release", "released", ""});
}

}  // namespace loam::cli
