// `loam ps`: what runs and waits on this machine, and which endpoints answer.
#include "base/clock.h"
#include "base/text.h"
#include "cli/every_box.h"
#include "cli/job_table.h"
#include "cli/on.h"
#include "cli/tasks.h"
#include "cli/verbs.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

constexpr int kRunsMax = 200;

void print_jobs(Console& console, const Json& answer, bool all) {
  Table table = job_table();
  const std::int64_t now_ms = wall_ms();
  for (const Json& job : answer["jobs"].as_array()) table.rows.push_back(job_cells(job, now_ms));
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
  if (context.arguments.value(kOn) == kEveryBox) return list_jobs_of_every_box(context);
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
