#include <algorithm>

#include "base/text.h"
#include "spec/checks.h"
#include "spec/parts.h"

namespace loam::spec {
namespace {

constexpr IntegerRange kRetries{0, 100};
constexpr IntegerRange kRanks{1, kRanksMax};
constexpr std::size_t kSharedParamsBytesMax = 32u << 10;
constexpr std::string_view kCommand = "a command: text for sh, or a list of words";
constexpr std::string_view kOutputPath = "a folder that the step fills, such as model";

bool fits_argument(const Value& value, const std::string& text) {
  if (text.size() <= kArgumentBytesMax) return true;
  value.problem("is longer than the " + std::to_string(kArgumentBytesMax) +
                " bytes that Linux allows; put it in a script");
  return false;
}

// A list is shown as JSON, so that no two commands read alike.
Command read_command_list(const Value& value) {
  Command command;
  for (const Value& item : value.items(kCommand)) {
    const auto word = item.written("a word of the command");
    if (word && fits_argument(item, *word)) command.argv.push_back(*word);
  }
  if (value.node().items.empty())
    value.problem("is an empty list; expected " + std::string(kCommand));
  else if (!command.argv.empty() && command.argv[0].empty())
    value.problem("begins with an empty word; expected a program");
  command.text = Json::array_of(command.argv).dump();
  return command;
}

Command read_command(const Value& value) {
  if (value.is_list()) return read_command_list(value);
  Command command;
  if (const auto text = value.text(kCommand); text && fits_argument(value, *text)) {
    command.argv = {"sh", "-c", *text};
    command.text = *text;
    command.shell = true;
  }
  return command;
}

std::vector<Reference> read_after(const Value& value) {
  std::vector<Reference> steps;
  for (const Value& item : value.items("a list of steps")) {
    const auto name = item.text("the name of a step");
    if (!name) continue;
    const bool twice = std::any_of(steps.begin(), steps.end(),
                                   [&](const Reference& other) { return other.name == *name; });
    if (twice)
      item.problem(quoted(*name) + " is listed twice");
    else
      steps.push_back({*name, item.place(), item.key()});
  }
  return steps;
}

std::vector<std::string> read_code(const Value& value) {
  std::vector<std::string> patterns;
  for (const Value& item : value.items("a list of patterns such as [train.py, \"src/**\"]")) {
    const auto pattern = read_project_path(item, "a pattern such as src/**");
    if (!pattern) continue;
    const Folder* folder = value.reader().folder;
    if (!closes_brackets(*pattern))
      item.problem(quoted(*pattern) + " has a '[' without its ']'");
    else if (folder != nullptr && !folder->has_match(*pattern) &&
             !folder->has_match(*pattern + "/**"))
      item.problem(quoted(*pattern) + " matches no file of the project");
    patterns.push_back(*pattern);
  }
  if (value.is_list() && value.node().items.empty())
    value.problem("is an empty list; leave the key out where all code counts");
  return patterns;
}

struct ReadOutput {
  std::optional<Output> output;
  std::optional<Reference> path;
};

ReadOutput read_output(const Value& value, const std::string& project) {
  std::optional<Value> path;
  Output output{project, ""};
  if (value.is_text()) {
    path = value;
  } else {
    const Section section(value, {"model", "path"}, "a folder, or a map with model and path");
    path = section.need("path", kOutputPath);
    if (const auto model = section.find("model"))
      output.model = read_name(*model, "the name of a model").value_or("");
  }
  if (!path) return {output, {}};
  output.path = read_project_path(*path, kOutputPath).value_or("");
  if (output.path.find_first_of("*?") != std::string::npos)
    path->problem(quoted(output.path) + " is a pattern; expected " + std::string(kOutputPath));
  return {output, Reference{output.path, path->place(), path->key()}};
}

// How the tasks of a sweep run; of a step that is read otherwise.
bool read_tasks(const Value& value, const Step& step) {
  const Section section(value, {"share"}, "a map such as {share: sandbox}");
  const auto share = section.need("share", "sandbox");
  if (!share || !share->choice({"sandbox"})) return false;
  if (step.sweep.empty()) {
    value.problem("is about the tasks of a sweep, and this step is none; add `sweep:`, or leave it out");
    return false;
  }
  if (step.ranks != 0)
    value.problem("a gang (`ranks:`) has a sandbox of its own; leave one of the two out");
  if (step.checkpoint)
    value.problem("what shares a sandbox has no checkpoint of its own (`checkpoint:`); leave one of the two out");
  std::size_t bytes = step.params.dump().size();
  for (const Swept& swept : step.sweep) {
    std::size_t largest = 0;
    for (const Json& one : swept.values) largest = std::max(largest, one.dump().size());
    bytes += swept.name.size() + largest;
  }
  if (bytes > kSharedParamsBytesMax)
    value.problem("a task's parameters together are longer than " + std::to_string(kSharedParamsBytesMax) +
                  " bytes, the most that tasks in one sandbox are handed; put them in a file");
  return true;
}

}  // namespace

void read_step(Draft& draft, const std::string& name, const Value& value) {
  const Section section(value,
                        {"run", "after", "params", "sweep", "tasks", "ranks", "resources", "network", "sandbox", "scratch",
                         "retries", "retry_on", "checkpoint", "preemptible", "priority", "code", "output",
                         "env"},
                        "a map with run and more");
  Step step;
  step.name = name;
  step.place = value.key_place();
  step.resources.place = value.key_place();
  step.params = Json::object();
  step.env = draft.project.env;
  std::vector<Reference> after;
  std::optional<Reference> output_path, checkpoint_path;
  if (const auto run = section.need("run", kCommand)) step.run = read_command(*run);
  if (const auto item = section.find("ranks"))
    step.ranks = static_cast<int>(item->integer(kRanks).value_or(1));
  if (const auto item = section.find("after")) after = read_after(*item);
  if (const auto item = section.find("params")) step.params = read_params(*item);
  if (const auto item = section.find("sweep")) step.sweep = read_sweep(*item, step.params);
  if (const auto item = section.find("resources"))
    step.resources = read_resources(*item, Claimant::step);
  if (const auto item = section.find("network")) step.network = read_network(*item, step.network);
  if (const auto item = section.find("sandbox")) step.require = read_sandbox(*item);
  if (const auto item = section.find("scratch"))
    step.scratch = item->choice({"memory", "disk"}) == 1 ? Scratch::disk : Scratch::memory;
  if (const auto item = section.find("retries"))
    step.retries = static_cast<int>(item->integer(kRetries).value_or(0));
  if (const auto item = section.find("retry_on")) {
    step.retry_on = read_retry_on(*item);
    if (!section.find("retries"))
      item->problem("says what is tried again, but nothing is; add `retries: 3`");
  }
  if (const auto item = section.find("checkpoint")) {
    ReadCheckpoint read = read_checkpoint(*item);
    step.checkpoint = std::move(read.checkpoint);
    step.preemptible = true;
    checkpoint_path = std::move(read.path);
    const std::string wrong = step.run.shell && !step.checkpoint->resume.empty()
                                  ? arguments_problem(step.run.text)
                                  : "";
    if (!wrong.empty())
      item->problem("resume: arguments go to the end of `run`, which " + wrong +
                    "; write ${LOAM_CHECKPOINT:+--resume $LOAM_CHECKPOINT} where they belong");
  }
  if (const auto item = section.find("preemptible"))
    step.preemptible = item->boolean().value_or(step.preemptible);
  if (const auto item = section.find("priority")) step.priority = read_priority(*item);
  if (const auto item = section.find("code")) step.code = read_code(*item);
  if (const auto item = section.find("output")) {
    ReadOutput read = read_output(*item, draft.project.name);
    step.output = std::move(read.output);
    output_path = std::move(read.path);
  }
  if (const auto item = section.find("env")) step.env = read_env(*item);
  for (const Reference& reference : after) step.after.push_back(reference.name);
  if (const auto item = section.find("tasks")) step.shares_sandbox = read_tasks(*item, step);
  draft.project.steps.push_back(std::move(step));
  draft.afters.push_back(std::move(after));
  draft.outputs.push_back(std::move(output_path));
  draft.checkpoints.push_back(std::move(checkpoint_path));
}

}  // namespace loam::spec
