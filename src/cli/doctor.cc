// `loam doctor`: what this host can do for jobs, and how to get what it cannot.
#include "base/text.h"
#include "cli/verbs.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

void print_check(Console& console, const Json& check) {
  const bool ok = check["ok"].as_bool();
  const std::string name = plain_text(check["name"]);
  const std::string finding = printable(check["finding"].as_string());
  console.print((ok ? console.green("ok     ") : console.yellow("missing")) + "  " + name +
                (finding.empty() ? "" : ": " + finding));
  const std::string mend = printable(check["mend"].as_string());
  if (!ok && !mend.empty()) console.print("         mend: " + mend);
}

void print_facts(Console& console, const Json& facts) {
  const std::string kernel = printable(facts["kernel"]["release"].as_string());
  const std::string system = printable(facts["distribution"]["name"].as_string());
  if (!kernel.empty())
    console.print("host     " + system + (system.empty() ? "" : ", ") + "Linux " + kernel);
}

int examine(Context& context) {
  const auto node = connect_node(context);
  if (!node) return report(context, node.error());
  auto answer = node->call("GET", "/v1/doctor");
  if (!answer) return report(context, answer.error());
  if (context.json()) {
    if (const auto state = node->call("GET", "/v1/node"); state && !answer->has("guards"))
      answer->set("guards", (*state)["guards"]);
    context.console.print_text(answer->pretty() + "\n");
    return kExitOk;
  }
  print_facts(context.console, (*answer)["facts"]);
  bool all_ok = true;
  for (const Json& check : (*answer)["checks"].as_array()) {
    print_check(context.console, check);
    all_ok = all_ok && check["ok"].as_bool();
  }
  context.console.print(all_ok ? "nothing is missing"
                               : "jobs run without what is missing, and their records say so");
  return kExitOk;
}

}  // namespace

Verb doctor_verb() {
  Verb verb;
  verb.name = "doctor";
  verb.summary = "what this host can do for jobs, and how to get what it cannot";
  verb.options = {json_option()};
  verb.examples = "loam doctor";
  verb.run = examine;
  return verb;
}

}  // namespace loam::cli
