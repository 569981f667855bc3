// `loam up`, `train`, `serve`: the file checked, the run submitted and followed until it has
// settled.
#include <algorithm>

#include "base/text.h"

#include "cli/any_box.h"
#include "cli/box_project.h"
#include "cli/follow.h"
#include "cli/on.h"
#include "cli/submission.h"
#include "cli/tasks.h"
#include "cli/verbs.h"

namespace loam::cli {
namespace {

int print_detached(Context& context, std::int64_t run) {
  const std::string number = std::to_string(run);
  if (context.json()) {
    context.console.print_text(Json::object({{"run", run}}).pretty() + "\n");
  } else {
    context.console.print("run " + number);
    const std::string on = on_words(context);
    context.console.print("next: loam ps" + on + " · loam logs -f " + number + on + " · loam cancel " + number + on);
  }
  return kExitOk;
}

int print_run(Context& context, const engines::LocalNode& node, std::int64_t run) {
  auto document = node.call("GET", "/v1/runs/" + std::to_string(run));
  if (!document) return report(context, document.error());
  document->set("run", run);
  context.console.print_text(document->pretty() + "\n");
  return kExitOk;
}

// An endpoint of a box listens on the box's own loopback.
void tell_way_to_endpoint(Context& context, const engines::LocalNode& node, std::int64_t run) {
  const auto document = node.call("GET", "/v1/runs/" + std::to_string(run));
  if (!document || (*document)["state"].as_string() != "serving") return;
  const std::string endpoint = printable((*document)["endpoint"].as_string());
  const std::string port = endpoint.substr(endpoint.rfind(':') + 1);
  if (port.empty()) return;
  context.console.print("it answers on " + context.box->address().name + "; from here: ssh -N -L " + port + ":" +
                        endpoint + " " + context.box->address().destination + ", then http://127.0.0.1:" + port);
}

int submit_and_follow(Context& context, const std::string& verb) {
  const auto file =
      read_project_file(context.console, context.arguments.value("file", "loam.yaml"));
  if (!file) return kExitUsage;
  if (const int status = choose_any_box(context, verb, *file); status != kExitOk) return status;
  auto body = submission(verb, &*file);
  if (!body) return report(context, body.error());
  body->set("force", context.arguments.flag("force"));
  body->set("hold", context.arguments.flag("hold"));
  if (auto added = add_queue_options(context.arguments, *body); !added)
    return report(context, added.error());
  const auto node = connect_node(context);
  if (!node) return report(context, node.error());
  auto delivery = deliver(context, *body, &*file);
  if (!delivery) return report(context, delivery.error());
  Signals signals;
  const Submitted submitted =
      submit(context.console, *node, signals, "/v1/runs", *body, file->shown);
  delivery->reset();
  if (submitted.run == 0) return submitted.status;
  if (context.arguments.flag("detach") && !submitted.interrupted)
    return print_detached(context, submitted.run);
  Follower::Options options;
  const auto& steps = file->project.steps;
  const bool sweeps = std::any_of(steps.begin(), steps.end(),
                                  [](const spec::Step& step) { return !step.sweep.empty(); });
  options.prefix_output = steps.size() > 1 || sweeps;
  options.quiet = context.json();
  options.interrupted = submitted.interrupted;
  options.on = on_words(context);
  const int status = Follower(context.console, *node, signals, submitted.run, options).follow();
  if (sweeps && !context.json())
    if (const auto run = node->call("GET", "/v1/runs/" + std::to_string(submitted.run)))
      print_tasks(context.console, *run);
  bring_lock_back(context, file->folder);
  if (context.box && !context.json()) tell_way_to_endpoint(context, *node, submitted.run);
  if (context.json() && print_run(context, *node, submitted.run) != kExitOk) return kExitFailure;
  return status;
}

Verb project_verb(const std::string& name, const std::string& summary,
                  const std::string& examples) {
  Verb verb;
  verb.name = name;
  verb.summary = summary;
  verb.examples = examples;
  verb.options = {{"-f,--file", "FILE", "the project's file (loam.yaml)"},
                  {"--detach", "", "return as soon as the run is accepted"},
                  {"--force", "", "run the steps again even where nothing changed"},
                  {"--hold", "", "its steps wait until loam release"},
                  json_option()};
  for (Option& option : queue_options()) verb.options.push_back(std::move(option));
  verb.run = [name](Context& context) { return submit_and_follow(context, name); };
  return verb;
}

}  // namespace

Verb up_verb() {
  return project_verb("up", "train what changed, then serve it: all of loam.yaml",
                      "loam up                             the loam.yaml here\n"
                      "loam up -f examples/digits/loam.yaml\n"
                      "loam up --force                     train again although nothing changed\n"
                      "loam up --detach --json             {\"run\": 17}, at once");
}

Verb train_verb() {
  return project_verb("train", "only the steps of loam.yaml", "loam train\nloam train --force");
}

Verb serve_verb() {
  Verb verb = project_verb("serve", "only the services of loam.yaml, with the models there are",
                           "loam serve\nloam serve --detach");
  std::erase_if(verb.options, [](const Option& option) {
    return option.names == "--force" || option.names == "--hold";
  });
  return verb;
}

}  // namespace loam::cli
