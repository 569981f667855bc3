#include "cli/sim_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/text.h"
#include "cli/table.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

constexpr std::size_t kReasonsShown = 10;
constexpr std::size_t kUsersShown = 5;
constexpr double kSecondsFormatted = 9e9;  // what nanoseconds in 64 bits can say

std::string length_text(double seconds) {
  if (seconds < 0.0005) return "0 s";
  if (seconds >= kSecondsFormatted) return fmt::format("{:.0f} years", seconds / (365.25 * 86400));
  const double rounded = seconds < 1 ? seconds : std::round(seconds);
  return format_duration(std::chrono::nanoseconds(std::llround(rounded * 1000) * 1'000'000));
}

std::string count_text(std::uint64_t count) {
  std::string text = std::to_string(count);
  for (std::size_t at = text.size(); at > 3; at -= 3) text.insert(at - 3, ",");
  return text;
}

std::string part_text(const std::optional<double>& part) {
  return part ? fmt::format("{:.1f} %", *part * 100) : "";
}

std::string micros_text(double micros) { return fmt::format("{:.0f} us", micros); }

double rounded(double value) { return std::round(value * 1000) / 1000; }

using Rows = std::vector<std::vector<std::string>>;

template <class Cell>
void add_row(Rows& rows, const std::vector<Simulated>& simulations, const std::string& name,
             const Cell& cell) {
  std::vector<std::string> row{name};
  bool any = false;
  for (const Simulated& one : simulations) {
    row.push_back(cell(one.measures));
    any = any || !row.back().empty();
  }
  if (any) rows.push_back(std::move(row));
}

template <class Cell>
void add_spread(Rows& rows, const std::vector<Simulated>& simulations, const std::string& name,
                sim::Spread sim::Measures::*spread, const Cell& cell) {
  const std::pair<const char*, double sim::Spread::*> parts[] = {{"mean", &sim::Spread::mean},
                                                                 {"median", &sim::Spread::median},
                                                                 {"p95", &sim::Spread::p95},
                                                                 {"max", &sim::Spread::max}};
  for (const auto& part : parts)
    add_row(rows, simulations, name + " " + part.first,
            [&](const sim::Measures& one) { return cell((one.*spread).*part.second); });
}

Rows rows_of(const std::vector<Simulated>& simulations) {
  using sim::Measures;
  Rows rows;
  const auto row = [&](const std::string& name, const auto& cell) {
    add_row(rows, simulations, name, cell);
  };
  const bool preempted =
      std::any_of(simulations.begin(), simulations.end(),
                  [](const Simulated& one) { return one.measures.preemptions > 0; });
  const bool waiting = std::any_of(simulations.begin(), simulations.end(),
                                   [](const Simulated& one) { return one.measures.waiting > 0; });
  row("finished", [](const Measures& one) { return count_text(one.finished); });
  row("ended at their limit", [](const Measures& one) { return count_text(one.at_limit); });
  row("refused", [](const Measures& one) { return count_text(one.refused); });
  if (waiting) row("never started", [](const Measures& one) { return count_text(one.waiting); });
  row("span", [](const Measures& one) { return length_text(one.span_s); });
  add_spread(rows, simulations, "wait", &Measures::wait_s, length_text);
  add_spread(rows, simulations, "slowdown", &Measures::slowdown,
             [](double value) { return fmt::format("{:.2f}", value); });
  row("CPU utilisation", [](const Measures& one) { return part_text(one.cpu_used); });
  row("GPU utilisation", [](const Measures& one) { return part_text(one.gpu_used); });
  row("memory utilisation", [](const Measures& one) { return part_text(one.memory_used); });
  row("fairness", [](const Measures& one) { return fmt::format("{:.3f}", one.fairness); });
  row("preemptions", [](const Measures& one) { return count_text(one.preemptions); });
  if (preempted) row("work lost", [](const Measures& one) { return length_text(one.lost_s); });
  row("decisions", [](const Measures& one) { return count_text(one.decisions.count); });
  row("decision p50", [](const Measures& one) { return micros_text(one.decisions.p50_us); });
  row("decision p99", [](const Measures& one) { return micros_text(one.decisions.p99_us); });
  row("decision max", [](const Measures& one) { return micros_text(one.decisions.max_us); });
  return rows;
}

// The most frequent first.
std::vector<std::pair<std::string, std::uint64_t>> by_count(
    const std::map<std::string, std::uint64_t>& counts) {
  std::vector<std::pair<std::string, std::uint64_t>> sorted(counts.begin(), counts.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  return sorted;
}

std::string refusals_text(const Simulated& one, bool named) {
  std::string text;
  std::size_t shown = 0;
  std::uint64_t rest = 0;
  for (const auto& [why, jobs] : by_count(one.outcome.refusals)) {
    if (++shown > kReasonsShown) {
      rest += jobs;
      continue;
    }
    text += "refused" + (named ? " by " + printable(one.policy) : "") + ": " + count_text(jobs) +
            (jobs == 1 ? " job " : " jobs, each ") + printable(why) + "\n";
  }
  if (rest > 0) text += "refused: " + count_text(rest) + " jobs more for other reasons (--json)\n";
  return text;
}

std::string users_text(const Simulated& one) {
  std::vector<sim::UserMeasures> users = one.measures.users;
  if (users.size() < 2) return "";
  std::stable_sort(users.begin(), users.end(),
                   [](const auto& a, const auto& b) { return a.slowdown > b.slowdown; });
  Table table{{"SLOWEST FOR", "JOBS", "MEAN WAIT", "MEAN SLOWDOWN", "CPU HOURS", "GPU HOURS"},
              {},
              {1, 2, 3, 4, 5}};
  for (std::size_t i = 0; i < std::min(users.size(), kUsersShown); ++i)
    table.rows.push_back({users[i].user, count_text(users[i].jobs), length_text(users[i].wait_s),
                          fmt::format("{:.2f}", users[i].slowdown),
                          fmt::format("{:.1f}", users[i].cpu_hours),
                          fmt::format("{:.1f}", users[i].gpu_hours)});
  return "\n" + format_table(table);
}

// "1,024 CPUs, 8 GPUs in 4 parts each, memory not limited"
std::string machine_text(const sim::Options& options) {
  const sched::Machine& machine = options.machine;
  std::string text =
      count_text(machine.cpus.size()) + " CPUs, " + count_text(machine.devices.size()) + " GPUs";
  if (!machine.devices.empty() && machine.devices[0].sharing.parts > 1)
    text += " in " + std::to_string(machine.devices[0].sharing.parts) + " parts each";
  return text + ", memory " +
         (options.memory ? format_size(machine.memory_total()) : std::string("not limited"));
}

Json to_json(const sim::Spread& spread) {
  return Json::object({{"mean", rounded(spread.mean)},
                       {"median", rounded(spread.median)},
                       {"p95", rounded(spread.p95)},
                       {"max", rounded(spread.max)}});
}

Json counts_json(const std::map<std::string, std::uint64_t>& counts) {
  Json list = Json::array();
  for (const auto& [why, jobs] : by_count(counts))
    list.push(Json::object({{"why", printable(why)}, {"jobs", jobs}}));
  return list;
}

Json part_json(const std::optional<double>& part) {
  return part ? Json(std::round(*part * 1e6) / 1e6) : Json();
}

Json users_json(const std::vector<sim::UserMeasures>& users) {
  Json list = Json::array();
  for (const sim::UserMeasures& user : users)
    list.push(Json::object({{"user", printable(user.user)},
                            {"jobs", user.jobs},
                            {"wait_mean_s", rounded(user.wait_s)},
                            {"slowdown_mean", rounded(user.slowdown)},
                            {"cpu_hours", rounded(user.cpu_hours)},
                            {"gpu_hours", rounded(user.gpu_hours)}}));
  return list;
}

Json to_json(const Simulated& one) {
  const sim::Measures& measures = one.measures;
  const sim::Measures::Decisions& decisions = measures.decisions;
  return Json::object(
      {{"policy", one.policy},
       {"jobs", Json::object({{"finished", measures.finished},
                              {"at_limit", measures.at_limit},
                              {"refused", measures.refused},
                              {"never_started", measures.waiting}})},
       {"refused", counts_json(one.outcome.refusals)},
       {"span_s", rounded(measures.span_s)},
       {"wait_s", to_json(measures.wait_s)},
       {"bounded_slowdown", to_json(measures.slowdown)},
       {"slowdown_bound_s", sim::kSlowdownBoundS},
       {"utilisation", Json::object({{"cpu", part_json(measures.cpu_used)},
                                     {"gpu", part_json(measures.gpu_used)},
                                     {"memory", part_json(measures.memory_used)}})},
       {"fairness", Json::object({{"measure", "Jain's index of users' mean bounded slowdowns"},
                                  {"value", std::round(measures.fairness * 1e6) / 1e6},
                                  {"users", measures.users.size()}})},
       {"users", users_json(measures.users)},
       {"preemptions", Json::object({{"count", measures.preemptions},
                                     {"jobs", measures.preempted_jobs},
                                     {"work_lost_s", rounded(measures.lost_s)}})},
       {"waiting_most", one.outcome.waiting_most},
       {"decision_us", Json::object({{"count", decisions.count},
                                     {"p50", rounded(decisions.p50_us)},
                                     {"p99", rounded(decisions.p99_us)},
                                     {"max", rounded(decisions.max_us)}})}});
}

// A cell of RFC 4180; what a spreadsheet would take for a formula is text.
std::string csv_cell(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char one : text) quoted += one == '"' ? std::string("\"\"") : std::string(1, one);
  return quoted + "\"";
}

std::string time_cell(const sim::Trace& trace, std::int64_t ms) {
  const std::int64_t own_ms = ms + trace.origin_ms;
  return trace.dated ? format_time(own_ms) : fmt::format("{}", static_cast<double>(own_ms) / 1000);
}

std::string_view state_name(sim::JobState state) {
  switch (state) {
    case sim::JobState::waiting:
      return "waiting";
    case sim::JobState::refused:
      return "refused";
    case sim::JobState::finished:
      return "finished";
    case sim::JobState::at_limit:
      return "at_limit";
  }
  return "";
}

}  // namespace

std::string simulations_text(const sim::Trace& trace, const std::vector<Simulated>& simulations) {
  Table table;
  table.head = {count_text(trace.jobs.size()) + " JOBS"};
  for (std::size_t i = 0; i < simulations.size(); ++i) {
    table.head.push_back(simulations[i].policy);
    table.right.push_back(i + 1);
  }
  table.rows = rows_of(simulations);
  std::string text = machine_text(simulations.front().options) + "\n\n" + format_table(table);
  for (const Simulated& one : simulations) text += refusals_text(one, simulations.size() > 1);
  if (simulations.size() == 1) text += users_text(simulations[0]);
  return text;
}

Json to_json(const sim::Trace& trace, const std::vector<Simulated>& simulations) {
  Json notes = Json::array_of(trace.notes);
  Json list = Json::array();
  for (const Simulated& one : simulations) list.push(to_json(one));
  const sched::Machine& machine = simulations.front().options.machine;
  return Json::object({{"trace", Json::object({{"file", trace.name},
                                               {"format", trace.format},
                                               {"jobs", trace.jobs.size()},
                                               {"left_out", counts_json(trace.left_out)},
                                               {"bad_lines", trace.bad_lines},
                                               {"users", trace.users.size()},
                                               {"notes", std::move(notes)}})},
                       {"machine", Json::object({{"cpu_milli", machine.cpu_milli_total()},
                                                 {"gpus", machine.devices.size()},
                                                 {"memory_bytes", simulations.front().options.memory
                                                                      ? Json(machine.memory_total())
                                                                      : Json()}})},
                       {"simulations", std::move(list)}});
}

std::string jobs_csv(const sim::Trace& trace, const sim::Outcome& outcome, std::size_t first,
                     std::size_t count) {
  std::string text;
  for (std::size_t i = first; i < std::min(trace.jobs.size(), first + count); ++i) {
    const sim::Job& job = trace.jobs[i];
    const sim::JobOutcome& one = outcome.jobs[i];
    const bool ran = one.end_ms >= 0;
    text += fmt::format(
        "{},{},{},{},{},{},{},{},{},{}\n", csv_cell(job.id), csv_cell(trace.users[job.user]),
        csv_cell(trace.accounts[job.account]), time_cell(trace, job.submit_ms),
        ran ? time_cell(trace, one.start_ms) : "", ran ? time_cell(trace, one.end_ms) : "",
        ran ? fmt::format("{}", static_cast<double>(one.start_ms - job.submit_ms) / 1000) : "",
        ran ? fmt::format("{:.3f}", sim::slowdown_of(job, one)) : "", state_name(one.state),
        one.preemptions);
  }
  return text;
}

}  // namespace loam::cli
