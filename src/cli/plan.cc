// `loam plan`: what `loam up` would do now, without doing it.
#include "base/text.h"
#include "cli/box_project.h"
#include "cli/submission.h"
#include "cli/verbs.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

std::string listed(const Json& texts) {
  std::vector<std::string> list;
  for (const std::string& text : texts.as_strings()) list.push_back(printable(text));
  return join(list, ", ");
}

std::string step_text(const Json& step) {
  const std::string& action = step["action"].as_string();
  const std::string version = plain_text(step["model_version"]);
  if (action == "unchanged")
    return "unchanged since run " + plain_text(step["since_run"]) +
           (step["model_version"].is_null() ? "" : " (" + version + ")");
  if (action == "may run")
    return "after " + listed(step["after"]) + "; runs again where what that makes is new";
  return describe_reason(step);
}

std::string start_text(const Json& step) {
  const Json& start = step["start"];
  if (start.is_null() || step["action"].as_string() == "may run") return "";
  if (step["after"].size() > 0) return "starts after " + listed(step["after"]);
  if (start["now"].as_bool()) return "starts at once";
  std::string text = "waits: " + printable(start["why"].as_string());
  if (start["preempts"].size() > 0) text += "; preempts " + listed(start["preempts"]);
  if (start["expected_start_ms"].is_null() && start.has("unknown_why") &&
      !start["unknown_why"].is_null())
    text += "; start unknown: " + printable(start["unknown_why"].as_string());
  return text;
}

std::string replicas_text(const Json& service) {
  if (service["replicas_max"].as_int() <= service["replicas"].as_int()) return "";
  return ", " + plain_text(service["replicas"]) + " to " + plain_text(service["replicas_max"]) +
         " replicas";
}

std::string service_text(const Json& service) {
  const std::string version = plain_text(service["model_version"]);
  const std::string& action = service["action"].as_string();
  if (action == "unchanged") return "goes on with " + version;
  if (action == "fails") return "cannot start: there is no version of " + plain_text(service["model"]);
  if (!service["after"].is_null())
    return "starts after " + plain_text(service["after"]) + ", with the version that it makes";
  return "starts with " + version;
}

void print_plan(Console& console, const Json& plan) {
  for (const Json& env : plan["environments"].as_array())
    if (env["state"].as_string() != "ready")
      console.print("environment " + plain_text(env["env"]) + ": " + plain_text(env["state"]) +
                    " first");
  for (const Json& step : plan["steps"].as_array()) {
    console.print(console.bold(plain_text(step["step"])) + ": " + step_text(step));
    if (const std::string start = start_text(step); !start.empty())
      console.print("  " + start);
  }
  for (const Json& service : plan["services"].as_array())
    console.print("service " + console.bold(plain_text(service["service"])) + ": " +
                  service_text(service) + replicas_text(service));
}

int show_plan(Context& context) {
  const auto file =
      read_project_file(context.console, context.arguments.value("file", "loam.yaml"));
  if (!file) return kExitUsage;
  auto body = submission("up", &*file);
  if (!body) return report(context, body.error());
  body->set("force", context.arguments.flag("force"));
  if (auto added = add_queue_options(context.arguments, *body); !added)
    return report(context, added.error());
  const auto node = connect_node(context);
  if (!node) return report(context, node.error());
  const auto delivery = deliver(context, *body, &*file);
  if (!delivery) return report(context, delivery.error());
  const auto response = node->request("POST", "/v1/plan", *body);
  if (!response) return report(context, response.error());
  if (!response->ok())
    return report_refusal(context.console, response->body, response->status, file->shown);
  if (context.json())
    context.console.print_text(response->body.pretty() + "\n");
  else
    print_plan(context.console, response->body);
  return kExitOk;
}

}  // namespace

Verb plan_verb() {
  Verb verb;
  verb.name = "plan";
  verb.summary = "what up would do now: which steps would run, why, and when";
  verb.options = {{"-f,--file", "FILE", "the project's file (loam.yaml)"},
                  {"--force", "", "as up --force"},
                  json_option()};
  for (Option& option : queue_options()) verb.options.push_back(std::move(option));
  verb.examples = "loam plan\nloam plan -f examples/digits/loam.yaml --json";
  verb.run = show_plan;
  return verb;
}

}  // namespace loam::cli
