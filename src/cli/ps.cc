// `loam ps`: what runs and waits on this machine, and which endpoints answer.
#include "base/clock.h"
#include "base/text.h"
#include "cli/table.h"
#include "cli/tasks.h"
#include "cli/verbs.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

constexpr int kRunsMax = 200;

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

// Runs that serve now, as {"project", "endpoint", "run"}.
Json endpoints_of(const Json& runs) {
  Json endpoints = Json::array();
  for (const Json& run : runs["runs"].as_array())
    if (run["state"].as_string() == "serving" && run.has("endpoint"))
      endpoints.push(Json::object(
          {{"project", run["project"]}, {"endpoint", run["endpoint"]}, {"run", run["id"]}}));
  return endpoints;
}

void print_jobs(Console& console, const Json& answer, bool all) {
  Table table{
      {"TARGET", "STATE", "PROJECT", "USER", "CPUS", "MEMORY", "SINCE", "WHY"}, {}, {4, 5, 6}};
  const std::int64_t now_ms = wall_ms();
  for (const Json& job : answer["jobs"].as_array())
    table.rows.push_back({job["target"].as_string(), job["state"].as_string(),
                          job["project"].as_string(), user_of(job),
                          format_cpus(job["cpu_milli"].as_int() * ranks_of(job)),
                          format_bytes(job["memory_bytes"].as_int() * ranks_of(job)),
                          format_age(since_ms(job), now_ms), why_of(job)});
  if (table.rows.empty())
    console.print(all ? "nothing has run yet"
                      : "nothing runs or waits (loam ps -a: what has ended)");
  else
    console.print_text(format_table(table));
  if (const std::int64_t more = answer["more"].as_int(); more > 0)
    console.print("and " + std::to_string(more) + " more (loam ps --limit " +
                  std::to_string(table.rows.size() + static_cast<std::size_t>(more)) + ")");
  for (const Json& endpoint : answer["endpoints"].as_array())
    console.print(plain_text(endpoint["project"]) + " answers at http://" +
                  plain_text(endpoint["endpoint"]) + " (run " + plain_text(endpoint["run"]) + ")");
}

// One run with the tasks of its sweeps.
int show_run(Context& context, const engines::LocalNode& node, const std::string& run) {
  auto document = node.call("GET", "/v1/runs/" + engines::percent_encoded_path(run));
  if (!document) return report(context, document.error());
  document->set("endpoints", Json::array());
  if (context.json()) {
    context.console.print_text(document->pretty() + "\n");
    return kExitOk;
  }
  print_jobs(context.console, *document, true);
  print_tasks(context.console, *document);
  return kExitOk;
}

int list_jobs(Context& context) {
  if (context.arguments.has("why")) return print_why(context);
  const auto node = connect_node(context);
  if (!node) return report(context, node.error());
  if (context.arguments.has("RUN")) return show_run(context, *node, context.arguments.value("RUN"));
  const bool all = context.arguments.flag("all");
  const Arguments& arguments = context.arguments;
  if (arguments.has("limit") && !is_number(arguments.value("limit")))
    return report(context, {ErrorCode::invalid, "--limit '" + printable(arguments.value("limit")) +
                                                    "': expected a number of jobs"});
  auto jobs = node->call("GET", std::string("/v1/jobs?all=") + (all ? "1" : "0") +
                                    (arguments.has("limit") ? "&limit=" + arguments.value("limit") : ""));
  if (!jobs) return report(context, jobs.error());
  const auto runs = node->call("GET", "/v1/runs?limit=" + std::to_string(kRunsMax));
  if (!runs) return report(context, runs.error());
  jobs->set("endpoints", endpoints_of(*runs));
  if (context.json())
    context.console.print_text(jobs->pretty() + "\n");
  else
    print_jobs(context.console, *jobs, all);
  return kExitOk;
}

}  // namespace

Verb ps_verb() {
  Verb verb;
  verb.name = "ps";
  verb.summary = "what runs and waits here, why it waits, and what is served";
  verb.positionals = {{"RUN", "only this run, with the tasks of its sweeps", false}};
  verb.options = {{"-a,--all", "", "what has ended, too"},
                  {"-n,--limit", "N", "at most so many of what runs and waits (1000)"},
                  {"--why", "TARGET", "what one job or run waits for, who has it, until when"},
                  json_option()};
  verb.examples =
      "loam ps\nloam ps -a --json\nloam ps 17                           its jobs, and each task of "
      "a sweep\nloam ps --why 17/train";
  verb.run = list_jobs;
  return verb;
}

}  // namespace loam::cli
