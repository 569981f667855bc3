#include <algorithm>
#include <map>
#include <set>

#include "base/text.h"
#include "spec/parts.h"

namespace loam::spec {
namespace {

using Index = std::map<std::string, std::size_t>;

Index index_steps(const std::vector<Step>& steps) {
  Index index;
  for (std::size_t i = 0; i < steps.size(); ++i) index.emplace(steps[i].name, i);
  return index;
}

std::string nearest_or_all(const std::string& wrong, const std::vector<std::string>& names) {
  static constexpr std::size_t kListedMax = 12;
  std::string near = did_you_mean(wrong, names);
  if (!near.empty() || names.size() > kListedMax) return near;
  return "; there is " + one_of(names);
}

void check_afters(Reader& reader, const Draft& draft, const Index& index) {
  std::vector<std::string> names;
  for (const Step& step : draft.project.steps) names.push_back(step.name);
  for (const auto& after : draft.afters)
    for (const Reference& reference : after)
      if (!index.contains(reference.name))
        reader.problem(
            reference.place, reference.key,
            "no step is named " + quoted(reference.name) + nearest_or_all(reference.name, names));
}

// Positions of the steps in an order in which they can run: passes over the file, each taking what
// has all of its `after` behind it. What remains waits, directly or not, for itself.
struct Order {
  std::vector<std::size_t> runnable;
  std::vector<bool> done;
};

bool waits(const std::vector<Reference>& after, const Index& index, const std::vector<bool>& done) {
  return std::any_of(after.begin(), after.end(), [&](const Reference& reference) {
    const auto found = index.find(reference.name);
    return found != index.end() && !done[found->second];
  });
}

Order order_steps(const Draft& draft, const Index& index) {
  Order order;
  order.done.assign(draft.afters.size(), false);
  for (bool moved = true; moved;) {
    moved = false;
    for (std::size_t i = 0; i < draft.afters.size(); ++i) {
      if (order.done[i] || waits(draft.afters[i], index, order.done)) continue;
      order.done[i] = true;
      order.runnable.push_back(i);
      moved = true;
    }
  }
  return order;
}

struct Edge {
  std::size_t step;
  const Reference* reference;  // to the step that it waits for
};

void report_cycle(Reader& reader, const Draft& draft, std::vector<Edge> cycle) {
  const auto first = std::min_element(cycle.begin(), cycle.end(),
                                      [](const Edge& a, const Edge& b) { return a.step < b.step; });
  std::rotate(cycle.begin(), first, cycle.end());
  std::string text;
  for (const Edge& edge : cycle) text += draft.project.steps[edge.step].name + " → ";
  text += draft.project.steps[cycle[0].step].name;
  reader.problem(cycle[0].reference->place, cycle[0].reference->key,
                 cycle.size() == 1 ? "a step cannot wait for itself (" + text + ")"
                                   : "these steps wait for each other: " + text);
}

// Every step that is not done has a reference to another such step; following these leads into a
// cycle.
void check_cycles(Reader& reader, const Draft& draft, const Index& index,
                  const std::vector<bool>& done) {
  std::vector<int> walk_of(draft.afters.size(), 0);
  for (std::size_t start = 0; start < draft.afters.size(); ++start) {
    const int walk = static_cast<int>(start) + 1;
    std::vector<Edge> trail;
    std::size_t at = start;
    while (!done[at] && walk_of[at] == 0) {
      walk_of[at] = walk;
      for (const Reference& reference : draft.afters[at]) {
        const auto next = index.find(reference.name);
        if (next == index.end() || done[next->second]) continue;
        trail.push_back({at, &reference});
        at = next->second;
        break;
      }
    }
    if (done[at] || walk_of[at] != walk || trail.empty()) continue;
    const auto entry =
        std::find_if(trail.begin(), trail.end(), [&](const Edge& edge) { return edge.step == at; });
    report_cycle(reader, draft, {entry, trail.end()});
  }
}

void check_models(Reader& reader, const Draft& draft) {
  if (reader.known_models == nullptr) return;
  std::vector<std::string> names = *reader.known_models;
  for (const Step& step : draft.project.steps)
    if (step.output && !step.output->model.empty()) names.push_back(step.output->model);
  for (const auto& model : draft.models) {
    if (!model || std::find(names.begin(), names.end(), model->name) != names.end()) continue;
    std::string mend = did_you_mean(model->name, names);
    if (mend.empty())
      mend = "; give a step `output: {model: " + model->name +
             ", path: FOLDER}` or use `loam models import`";
    reader.problem(
        model->place, model->key,
        "no step makes a model named " + quoted(model->name) + " and none is imported" + mend);
  }
}

// Steps and services of a run share one space of names: RUN/NAME.
void check_clashes(Reader& reader, const Draft& draft, const Index& index) {
  for (std::size_t i = 0; i < draft.project.services.size(); ++i) {
    const Service& service = draft.project.services[i];
    const auto step = index.find(service.name);
    if (step == index.end()) continue;
    const Place other = draft.project.steps[step->second].place;
    reader.problem(service.place, draft.service_keys[i],
                   "the step at line " + std::to_string(other.line) + " is named " +
                       quoted(service.name) + " too; a run's parts need names of their own");
  }
}

std::size_t count_tasks(const Step& step) {
  std::size_t tasks = 1;
  for (const Swept& swept : step.sweep)
    tasks = std::min(tasks * std::max<std::size_t>(swept.values.size(), 1), kTasksMax);
  return tasks;
}

// Tasks are named STEP.N; which of their models is the newest only their ends decide.
void check_sweeps(Reader& reader, const Draft& draft) {
  for (const Step& step : draft.project.steps) {
    if (step.sweep.empty()) continue;
    std::set<std::string> names;
    for (std::size_t i = 1; i <= count_tasks(step); ++i) names.insert(task_name(step.name, i));
    const auto clash = [&](const std::string& name, Place place, const std::string& key) {
      if (names.contains(name))
        reader.problem(place, key,
                       quoted(name) + " is a task's name of the sweep " + quoted(step.name) +
                           "; a run's parts need names of their own");
    };
    for (const Step& other : draft.project.steps)
      clash(other.name, other.place, "steps." + other.name);
    for (std::size_t i = 0; i < draft.project.services.size(); ++i) {
      const Service& service = draft.project.services[i];
      clash(service.name, service.place, draft.service_keys[i]);
      if (step.output && step.output->model == service.model && !service.version)
        reader.problem(draft.models[i] ? draft.models[i]->place : service.place,
                       draft.models[i] ? draft.models[i]->key : draft.service_keys[i],
                       "each task of the sweep " + quoted(step.name) + " makes a version of " +
                           quoted(service.model) + "; say which one serves, such as " +
                           service.model + "@1");
    }
  }
}

// Data folders are bound read-only at their own place.
void check_not_in_data(Reader& reader, const Draft& draft, const Reference& folder) {
  for (const DataSource& source : draft.project.data) {
    const std::string data = pattern_folder(source.files);
    if (!data.empty() && starts_with_path(folder.name, data))
      reader.problem(folder.place, folder.key,
                     quoted(folder.name) + " lies in the folder of data " + quoted(source.name) +
                         ", which jobs cannot write; choose another folder");
  }
}

// Of one folder for both, the checkpoints are what `match` names and the output is the rest.
void check_folders(Reader& reader, const Draft& draft) {
  for (std::size_t i = 0; i < draft.outputs.size(); ++i) {
    const auto& output = draft.outputs[i];
    const auto& checkpoint = draft.checkpoints[i];
    if (output && !output->name.empty()) check_not_in_data(reader, draft, *output);
    if (!checkpoint || checkpoint->name.empty()) continue;
    check_not_in_data(reader, draft, *checkpoint);
    if (!output || output->name.empty() || output->name == checkpoint->name) continue;
    if (starts_with_path(checkpoint->name, output->name) ||
        starts_with_path(output->name, checkpoint->name))
      reader.problem(checkpoint->place, checkpoint->key,
                     quoted(checkpoint->name) + " and the output " + quoted(output->name) +
                         " lie in each other; expected two folders, or the same one for both");
  }
}

void reorder(Draft& draft, const std::vector<std::size_t>& order) {
  std::vector<Step> steps;
  for (const std::size_t i : order) steps.push_back(std::move(draft.project.steps[i]));
  draft.project.steps = std::move(steps);
}

}  // namespace

void check_references(Reader& reader, Draft& draft) {
  const Index index = index_steps(draft.project.steps);
  check_afters(reader, draft, index);
  check_models(reader, draft);
  check_clashes(reader, draft, index);
  check_sweeps(reader, draft);
  check_folders(reader, draft);
  const Order order = order_steps(draft, index);
  check_cycles(reader, draft, index, order.done);
  if (order.runnable.size() == draft.project.steps.size()) reorder(draft, order.runnable);
}

}  // namespace loam::spec
