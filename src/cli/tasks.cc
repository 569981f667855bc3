#include "cli/tasks.h"

#include <algorithm>
#include <string>
#include <vector>

#include "base/text.h"
#include "cli/table.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

constexpr std::size_t kMetricsShown = 6;

void add_names(const Json& object, std::vector<std::string>& names, std::size_t names_max) {
  for (const auto& [name, value] : object.as_object())
    if (names.size() < names_max && std::find(names.begin(), names.end(), name) == names.end())
      names.push_back(name);
}

// Nothing where it went well: then the version that it made.
std::string end_of(const Json& task) {
  for (const char* key : {"error", "why", "model_version"})
    if (const std::string& text = task[key].as_string(); !text.empty()) return printable(text);
  return "";
}

void print_sweep(Console& console, const Json& job) {
  std::vector<std::string> params, metrics;
  for (const Json& task : job["tasks"].as_array()) {
    add_names(task["params"], params, params.size() + task["params"].size());
    add_names(task["metrics"], metrics, kMetricsShown);
  }
  Table table{{"TASK", "STATE"}, {}, {}};
  for (const auto* names : {&params, &metrics})
    for (const std::string& name : *names) {
      table.right.push_back(table.head.size());
      table.head.push_back(printable(name));
    }
  table.head.push_back("WHY");
  for (const Json& task : job["tasks"].as_array()) {
    std::vector<std::string> row{task["target"].as_string(), task["state"].as_string()};
    for (const std::string& name : params)
      row.push_back(task["params"].has(name) ? plain_text(task["params"][name]) : "");
    for (const std::string& name : metrics)
      row.push_back(task["metrics"].has(name) ? plain_text(task["metrics"][name]["last"]) : "");
    row.push_back(end_of(task));
    table.rows.push_back(std::move(row));
  }
  console.print_text(format_table(table));
}

}  // namespace

std::string task_counts_text(const Json& job) {
  if (!job.has("task_counts")) return "";
  std::vector<std::string> parts;
  for (const char* key : {"done", "running", "waiting", "failed", "cancelled"})
    if (const std::int64_t count = job["task_counts"][key].as_int(); count > 0)
      parts.push_back(std::to_string(count) + " " + key);
  return join(parts, ", ");
}

void print_tasks(Console& console, const Json& run) {
  for (const Json& job : run["jobs"].as_array())
    if (job["tasks"].size() > 0) print_sweep(console, job);
}

}  // namespace loam::cli
