// `loam check` and `loam schema`: the file alone. No node is started; where one answers, it says which
// models are there besides those that the file's own steps make.
#include "api/openapi.h"
#include "cli/on.h"
#include "cli/submission.h"
#include "cli/verbs.h"

namespace loam::cli {
namespace {

std::vector<std::string> models_of(const Result<engines::LocalNode>& node) {
  std::vector<std::string> names;
  const auto answer = node ? node->call("GET", "/v1/models") : Result<Json>(Json());
  if (!answer) return names;
  for (const Json& model : (*answer)["models"].as_array())
    names.push_back(model["name"].as_string());
  return names;
}

int check_file(Context& context) {
  const bool on_box = context.arguments.has(kOn);
  const auto node = on_box ? connect_node(context) : engines::find_node();
  if (on_box && !node) return report(context, node.error());
  const std::vector<std::string> models = models_of(node);
  const auto file =
      read_project_file(context.console, context.arguments.value("FILE", "loam.yaml"), &models);
  if (!file) return kExitUsage;
  const auto count = [](std::size_t number, const std::string& word) {
    return std::to_string(number) + " " + word + (number == 1 ? "" : "s");
  };
  context.console.print(file->shown + ": OK, project '" + file->project.name + "' with " +
                        count(file->project.steps.size(), "step") + " and " +
                        count(file->project.services.size(), "service"));
  return kExitOk;
}

int print_schema(Context& context) {
  if (context.arguments.flag("api")) {
    context.console.print_text(api::openapi_document(api::operation_names()).pretty() + "\n");
    return kExitOk;
  }
  context.console.print_text(spec::json_schema().pretty() + "\n");
  return kExitOk;
}

}  // namespace

Verb check_verb() {
  Verb verb;
  verb.name = "check";
  verb.summary = "read a loam.yaml and name every problem in it";
  verb.positionals = {{"FILE", "the file (loam.yaml)", false}};
  verb.examples = "loam check\nloam check examples/digits/loam.yaml";
  verb.run = check_file;
  return verb;
}

Verb schema_verb() {
  Verb verb;
  verb.name = "schema";
  verb.here_only = true;
  verb.summary = "the JSON Schema of loam.yaml, for editors";
  verb.options = {{"--api", "", "the node's HTTP API instead, as OpenAPI 3.1"}};
  verb.examples =
      "loam schema > loam.schema.json\n"
      "loam schema --api > loam.openapi.json\n"
      "# yaml-language-server: $schema=loam.schema.json     as the first line of loam.yaml";
  verb.run = print_schema;
  return verb;
}

}  // namespace loam::cli
