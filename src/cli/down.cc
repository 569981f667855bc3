// `loam down`: ends a project's services and gateway.
#include <cstdlib>

#include "base/text.h"
#include "cli/box_project.h"
#include "cli/on.h"
#include "cli/submission.h"
#include "cli/verbs.h"

namespace loam::cli {
namespace {

int stop_project(Context& context) {
  Json body = Json::object();
  if (context.arguments.has("PROJECT")) {
    body.set("name", context.arguments.value("PROJECT"));
  } else {
    const auto file =
        read_project_file(context.console, context.arguments.value("file", "loam.yaml"));
    if (!file) return kExitUsage;
    const auto folder = context.arguments.has(kOn) ? folder_on_box(context, file->folder) : file->folder;
    if (!folder) return report(context, folder.error());
    body.set("project", *folder);
  }
  const Answer answer = ask(context, "POST", "/v1/down", body);
  if (answer.status != kExitOk) return answer.status;
  if (context.json()) {
    context.console.print_text(answer.body.pretty() + "\n");
    return kExitOk;
  }
  const auto stopped = answer.body["stopped"].as_strings();
  for (const std::string& name : stopped) context.console.print("stopped " + printable(name));
  if (stopped.empty()) context.console.print("nothing of it was served");
  return kExitOk;
}

}  // namespace

Verb down_verb() {
  Verb verb;
  verb.name = "down";
  verb.summary = "end a project's services";
  verb.positionals = {
      {"PROJECT", "its name; without one: the project of the loam.yaml here", false}};
  verb.options = {{"-f,--file", "FILE", "the project's file (loam.yaml)"}, json_option()};
  verb.examples = "loam down\nloam down digits";
  verb.run = stop_project;
  return verb;
}

}  // namespace loam::cli
