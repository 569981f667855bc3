#include "sim/measures.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace loam::sim {
namespace {

constexpr double kMsPerSecond = 1000;
constexpr double kMsPerHour = 3600 * kMsPerSecond;

template <class Values>
double nearest_rank(const Values& sorted, double part) {
  const auto rank = static_cast<std::size_t>(std::ceil(part * static_cast<double>(sorted.size())));
  return static_cast<double>(sorted[std::clamp<std::size_t>(rank, 1, sorted.size()) - 1]);
}

Measures::Decisions decisions_of(std::vector<float> times_us) {
  if (times_us.empty()) return {};
  std::sort(times_us.begin(), times_us.end());
  return {.count = times_us.size(),
          .p50_us = nearest_rank(times_us, 0.5),
          .p99_us = nearest_rank(times_us, 0.99),
          .max_us = static_cast<double>(times_us.back())};
}

// Sums over jobs: amount × milliseconds on the machine.
struct Area {
  double cpu = 0, gpu = 0, memory = 0;
};

void set_used(Measures& measures, const Trace& trace, const Options& options, const Area& area) {
  const double span_ms = measures.span_s * kMsPerSecond;
  const auto part = [&](double used, double capacity) {
    return span_ms <= 0 || capacity <= 0 ? 0 : used / (capacity * span_ms);
  };
  if (trace.has_cpus)
    measures.cpu_used = part(area.cpu, static_cast<double>(options.machine.cpu_milli_total()));
  if (!options.machine.devices.empty())
    measures.gpu_used = part(area.gpu, 1000 * static_cast<double>(options.machine.devices.size()));
  if (options.memory && trace.has_memory)
    measures.memory_used = part(area.memory, static_cast<double>(options.machine.memory_total()));
}

double fairness_of(const std::vector<UserMeasures>& users) {
  std::vector<double> slowdowns;
  for (const UserMeasures& user : users) slowdowns.push_back(user.slowdown);
  return jain_index(slowdowns);
}

}  // namespace

double slowdown_of(const Job& job, const JobOutcome& outcome) {
  const double there_s = static_cast<double>(outcome.end_ms - job.submit_ms) / kMsPerSecond;
  const double ran_s = static_cast<double>(outcome.worked_ms - outcome.lost_ms) / kMsPerSecond;
  return std::max(1.0, there_s / std::max(ran_s, kSlowdownBoundS));
}

Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  return {.mean = std::accumulate(values.begin(), values.end(), 0.0) /
                  static_cast<double>(values.size()),
          .median = nearest_rank(values, 0.5),
          .p95 = nearest_rank(values, 0.95),
          .max = values.back()};
}

double jain_index(const std::vector<double>& values) {
  double sum = 0, squares = 0;
  for (const double value : values) sum += value, squares += value * value;
  return squares <= 0 ? 1 : sum * sum / (static_cast<double>(values.size()) * squares);
}

Measures measure(const Trace& trace, const Options& options, const Outcome& outcome) {
  Measures measures;
  std::vector<UserMeasures> users(trace.users.size());
  std::vector<double> waits_s, slowdowns;
  Area area;
  std::int64_t last_ms = 0;
  for (std::size_t i = 0; i < trace.jobs.size(); ++i) {
    const Job& job = trace.jobs[i];
    const JobOutcome& one = outcome.jobs[i];
    if (one.state == JobState::refused) ++measures.refused;
    if (one.state == JobState::waiting) ++measures.waiting;
    if (one.end_ms < 0) continue;
    ++(one.state == JobState::finished ? measures.finished : measures.at_limit);
    last_ms = std::max(last_ms, one.end_ms);
    waits_s.push_back(static_cast<double>(one.start_ms - job.submit_ms) / kMsPerSecond);
    slowdowns.push_back(slowdown_of(job, one));
    const double gpu_milli = static_cast<double>(one.gpu_milli);
    const double ran_ms = static_cast<double>(one.worked_ms);
    area.cpu += static_cast<double>(job.cpu_milli) * ran_ms;
    area.gpu += gpu_milli * ran_ms;
    area.memory += static_cast<double>(job.memory_bytes) * ran_ms;
    measures.preemptions += one.preemptions;
    measures.preempted_jobs += one.preemptions > 0 ? 1 : 0;
    measures.lost_s += static_cast<double>(one.lost_ms) / kMsPerSecond;
    UserMeasures& user = users[job.user];
    ++user.jobs;
    user.wait_s += waits_s.back();
    user.slowdown += slowdowns.back();
    user.cpu_hours += static_cast<double>(job.cpu_milli) / 1000 * ran_ms / kMsPerHour;
    user.gpu_hours += gpu_milli / 1000 * ran_ms / kMsPerHour;
  }
  for (std::size_t i = 0; i < users.size(); ++i) {
    if (users[i].jobs == 0) continue;
    users[i].user = trace.users[i];
    users[i].wait_s /= static_cast<double>(users[i].jobs);
    users[i].slowdown /= static_cast<double>(users[i].jobs);
    measures.users.push_back(users[i]);
  }
  std::sort(measures.users.begin(), measures.users.end(),
            [](const UserMeasures& a, const UserMeasures& b) { return a.user < b.user; });
  measures.span_s = static_cast<double>(last_ms) / kMsPerSecond;
  measures.wait_s = spread_of(std::move(waits_s));
  measures.slowdown = spread_of(std::move(slowdowns));
  set_used(measures, trace, options, area);
  measures.fairness = fairness_of(measures.users);
  measures.decisions = decisions_of(outcome.decisions_us);
  return measures;
}

}  // namespace loam::sim
