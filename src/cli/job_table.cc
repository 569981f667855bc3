#include "cli/job_table.h"

#include "base/text.h"
#include "cli/tasks.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

std::int64_t since_ms(const Json& job) {
  const auto& attempts = job["attempts"].as_array();
  if (attempts.empty()) return job["created_ms"].as_int();
  const Json& last = attempts.back();
  for (const char* key : {"ended_ms", "started_ms", "created_ms"})
    if (last[key].as_int() > 0) return last[key].as_int();
  return 0;
}

// Why it waits, or how it ended.
std::string why_of(const Json& job) {
  if (const auto tasks = task_counts_text(job); !tasks.empty()) {
    const auto& error = job["error"].as_string();
    return tasks + (error.empty() ? "" : "; " + error);
  }
  if (const auto& why = job["why"].as_string(); !why.empty()) return why;
  if (const auto& error = job["error"].as_string(); !error.empty()) return error;
  const auto& attempts = job["attempts"].as_array();
  const std::string& state = job["state"].as_string();
  if (state == "failed" && !attempts.empty()) return describe_exit(attempts.back()["exit"]);
  return job["model_version"].as_string();
}

// What is asked for is of each rank.
std::int64_t ranks_of(const Json& job) { return job["request"]["ranks"].as_int(1); }

}  // namespace

Table job_table() {
  return {{"TARGET", "STATE", "PROJECT", "USER", "CPUS", "MEMORY", "SINCE", "WHY"}, {}, {4, 5, 6}};
}

std::vector<std::string> job_cells(const Json& job, std::int64_t now_ms) {
  return {job["target"].as_string(),
          job["state"].as_string(),
          job["project"].as_string(),
          user_of(job),
          format_cpus(job["cpu_milli"].as_int() * ranks_of(job)),
          format_bytes(job["memory_bytes"].as_int() * ranks_of(job)),
          format_age(since_ms(job), now_ms),
          why_of(job)};
}

Json endpoints_of(const Json& runs) {
  Json endpoints = Json::array();
  for (const Json& run : runs["runs"].as_array())
    if (run["state"].as_string() == "serving" && run.has("endpoint"))
      endpoints.push(Json::object(
          {{"project", run["project"]}, {"endpoint", run["endpoint"]}, {"run", run["id"]}}));
  return endpoints;
}

}  // namespace loam::cli
