
#include "base/text.h"
#include "spec/checks.h"
#include "spec/parts.h"
#include "spec/project.h"
#include "spec/yaml.h"

namespace loam::spec {
namespace {

constexpr std::string_view kAccount = "an account that the node's configuration has, such as vision";
constexpr std::string_view kName = "the project's name, such as digits";

void note_both(const Value& later, std::string_view other) {
  later.reader().problem(
      later.key_place(), later.key(),
      "cannot stand beside " + std::string(other) + ", of which it is the short form");
}

// The gateway is a part of the run too: 17/gateway.
void check_job_name(const NamedValue& member) {
  if (!check_name(member) || member.name != "gateway") return;
  member.value.reader().problem(member.value.key_place(), member.value.key(),
                                "'gateway' is the name of the run's own gateway; choose another");
}

void read_steps(Draft& draft, const Section& top) {
  const auto steps = top.find("steps");
  if (const auto train = top.find("train")) {
    if (steps) note_both(*train, "steps:");
    read_step(draft, "train", *train);
  }
  if (!steps) return;
  const auto members = steps->members("a map of steps");
  if (steps->is_map() && members.empty()) steps->problem("is empty; expected at least one step");
  for (const NamedValue& member : members) {
    check_job_name(member);
    read_step(draft, member.name, member.value);  // what it holds is read whatever its name
  }
}

void read_services(Draft& draft, const Section& top) {
  const auto services = top.find("services");
  if (const auto serve = top.find("serve")) {
    if (services) note_both(*serve, "services:");
    // Where the name is wrong that is a problem of its own, and not that the model is not given.
    const std::string& name = draft.project.name;
    read_service(draft, name, name.empty() ? "?" : name, *serve);
    if (name.empty()) draft.models.back().reset();
  }
  if (!services) return;
  const auto members = services->members("a map of services");
  if (services->is_map() && members.empty())
    services->problem("is empty; expected at least one service");
  for (const NamedValue& member : members) {
    check_job_name(member);
    read_service(draft, member.name, "", member.value);
  }
}

void check_variables(const Section& top, const Project& project) {
  const auto secrets = top.find("secrets");
  if (!secrets || !secrets->is_list()) return;
  for (const Value& item : secrets->items("a list"))
    if (project.vars.contains(item.node().text))
      item.problem(quoted(item.node().text) +
                   " is also in vars:, where everyone can read it; keep one");
}

Draft read_draft(Reader& reader, const Node& root) {
  Draft draft;
  Project& project = draft.project;
  const Value value(reader, root, "", {1, 1});
  const Section top(value,
                    {"name", "env", "mounts", "vars", "secrets", "keep", "data", "steps", "train",
                     "services", "serve", "endpoint", "account"},
                    "a map of keys such as `name: digits`");
  if (!value.is_map()) return draft;
  if (const auto item = top.need("name", kName))
    project.name = read_name(*item, kName).value_or("");
  if (const auto item = top.find("env")) project.env = read_env(*item);
  if (const auto item = top.find("mounts")) project.mounts = read_mounts(*item);
  if (const auto item = top.find("vars")) project.vars = read_vars(*item);
  if (const auto item = top.find("secrets")) project.secrets = read_secrets(*item);
  if (const auto item = top.find("keep")) project.keep = read_keep(*item);
  if (const auto item = top.find("data")) project.data = read_data(*item);
  read_steps(draft, top);
  read_services(draft, top);
  if (const auto item = top.find("endpoint")) {
    project.endpoint = read_endpoint(*item).value_or(project.endpoint);
    project.endpoint_place = item->place();
  }
  if (const auto item = top.find("account")) {
    project.account = read_name(*item, kAccount).value_or("");
    project.account_place = item->place();
  }
  check_variables(top, project);
  check_references(reader, draft);
  return draft;
}

}  // namespace

ReadResult read_project(std::string_view text, const Folder* folder,
                        const std::vector<std::string>* known_models) {
  Document document = read_yaml(text);
  Reader reader{folder, known_models, std::move(document.problems), project_key_homes()};
  ReadResult result;
  if (document.root && document.root->kind == Node::Kind::null && reader.problems.empty()) {
    reader.problem({1, 1}, "", "the file is empty; expected at least `name:` and a `train:`");
  } else if (document.root) {
    Draft draft = read_draft(reader, *document.root);
    if (reader.problems.empty()) result.project = std::move(draft.project);
  }
  result.problems = reader.in_file_order();
  return result;
}

std::string format_problems(std::string_view file, const std::vector<Problem>& problems) {
  std::string text;
  for (const Problem& problem : problems) {
    text += printable(file) + ":";
    if (problem.place.line > 0)
      text += std::to_string(problem.place.line) + ":" + std::to_string(problem.place.column) + ":";
    text += " ";
    if (!problem.key.empty()) text += printable(problem.key) + ": ";
    text += printable(problem.message) + "\n";
  }
  return text;
}

}  // namespace loam::spec
