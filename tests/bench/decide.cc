// How long one decision of the scheduler takes on a large machine with a long queue: 512 cores, 16
// GPUs in 112 slices, 100,000 waiting claims of 200 users. Each event (a task ends, a claim comes)
// is timed alone; prints a table, or with --json a document.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "sched/sched.h"

namespace {

using namespace loam::sched;

constexpr std::uint64_t kGiB = 1ull << 30;
constexpr std::int64_t kMinute = 60'000;
constexpr std::size_t kWaiting = 100'000;
constexpr std::size_t kEvents = 20'000;

Machine large_machine() {
  Machine machine;
  for (std::uint32_t i = 0; i < 512; ++i)
    machine.cpus.push_back({.id = i, .core = i, .numa = i / 64, .cache = i / 8});
  machine.memory_bytes.assign(8, 512 * kGiB);
  for (std::uint32_t gpu = 0; gpu < 16; ++gpu) {
    Device device{.id = "GPU-" + std::to_string(gpu),
                  .kind = "gpu",
                  .model = "H100",
                  .memory_bytes = 80 * kGiB,
                  .numa = static_cast<std::int32_t>(gpu / 2)};
    machine.devices.push_back(device);
    for (std::uint32_t slice = 0; slice < 7; ++slice)
      machine.devices.push_back({.id = device.id + "/" + std::to_string(slice),
                                 .kind = "gpu",
                                 .model = "H100 MIG 1g.10gb",
                                 .memory_bytes = 10 * kGiB,
                                 .numa = device.numa,
                                 .parent = device.id});
    for (std::uint32_t other = 0; other < gpu; ++other)
      machine.links.push_back({"GPU-" + std::to_string(other), device.id, 900});
  }
  return machine;
}

// Processor time of this thread: on a machine that does other things too, the clock on the wall
// measures those.
double thread_us() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}

// What the claims of a queue are like.
struct Mix {
  const char* name;
  bool distinct;  // no two ask for the same
  unsigned gpu_percent;
  unsigned limit_percent;
  std::uint64_t cpu_milli_max;
  std::uint64_t memory_gib_max;
  unsigned preemptible_percent;
};
constexpr Mix kMixes[] = {
    {"training and services", true, 60, 80, 16'000, 64, 30},
    {"five shapes", false, 50, 80, 8'000, 64, 0},
    {"no time limits", true, 50, 0, 16'000, 64, 0},
    {"quarter CPUs", true, 5, 90, 500, 2, 0},
    {"large gangs among them", true, 60, 90, 200'000, 64, 0},
};

class Bench {
 public:
  explicit Bench(const Mix& mix) : mix_(mix), state_(make_state(large_machine(), policy())) {}

  void run() {
    while (state_.waiting.size() < kWaiting) submit(false);
    for (std::size_t i = 0; i < kEvents; ++i) {
      end_next();
      while (state_.waiting.size() < kWaiting) submit(true);
    }
  }

  std::map<std::string, std::vector<double>> times_us;
  std::size_t running() const { return ends_.size(); }
  std::size_t classes() const { return state_.waiting.classes(); }

 private:
  static Policy policy() {
    Policy made;
    for (int i = 0; i < 10; ++i)
      made.accounts["account-" + std::to_string(i)].shares = static_cast<std::uint32_t>(1 + i);
    return made;
  }
  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }

  Claim claim() {
    const std::uint64_t user = below(200);
    Claim made{.id = ++last_,
               .user = "user-" + std::to_string(user),
               .account = "account-" + std::to_string(user % 10),
               .priority = static_cast<std::int32_t>(below(3))};
    const std::uint64_t shape = mix_.distinct ? 0 : 1 + below(5);
    const auto amount = [&](std::uint64_t max) {
      return shape == 0 ? 1 + below(max) : max * shape / 5;
    };
    made.rank.cpu_milli = amount(mix_.cpu_milli_max);
    made.rank.memory_bytes = amount(mix_.memory_gib_max * kGiB);
    if (below(100) < mix_.limit_percent)
      made.time_limit_ms = static_cast<std::int64_t>(shape == 0 ? kMinute + below(24 * 60 * kMinute)
                                                                : shape * 60 * kMinute);
    if (below(100) < mix_.gpu_percent)
      made.rank.devices = {
          {.count = static_cast<std::uint32_t>(1 + below(below(10) == 0 ? 8 : 2))}};
    made.preemptible = below(100) < mix_.preemptible_percent;
    made.grace_ms = kMinute / 2;
    return made;
  }

  template <class Event>
  void timed(const char* kind, const Event& event) {
    Actions actions;
    const double begin = thread_us();
    event(actions);
    if (kind != nullptr) times_us[kind].push_back(thread_us() - begin);
    for (const Action& action : actions) take(action);
  }

  void submit(bool measured) {
    const Claim made = claim();
    timed(measured ? "submitted" : nullptr,
          [&](Actions& actions) { on_submitted(state_, made, now_, actions); });
  }

  void take(const Action& action) {
    const std::pair key(action.claim, action.task);
    if (action.kind == Action::Kind::grant) {
      const std::int64_t limit = state_.find(action.claim)->claim.time_limit_ms;
      const std::uint64_t longest = static_cast<std::uint64_t>(limit > 0 ? limit : 600 * kMinute);
      ends_.insert({now_ + 1 + static_cast<Time>(below(longest)), key});
    }
    if (action.kind == Action::Kind::preempt) victims_.push_back(key);
    if (action.kind == Action::Kind::wake_at)
      timed("continued", [&](Actions& actions) { on_time(state_, now_, actions); });
  }

  void end_next() {
    if (!victims_.empty()) {
      const auto [id, task] = victims_.back();
      victims_.pop_back();
      std::erase_if(ends_, [&](const auto& one) { return one.second == std::pair(id, task); });
      return timed("ended",
                   [&](Actions& actions) { on_task_requeued(state_, id, task, now_, actions); });
    }
    const auto first = ends_.begin();
    now_ = std::max(now_, first->first);
    const auto [id, task] = first->second;
    ends_.erase(first);
    timed("ended", [&](Actions& actions) { on_task_ended(state_, id, task, now_, actions); });
  }

  const Mix& mix_;
  State state_;
  std::mt19937_64 random_{42};
  Time now_ = 0;
  ClaimId last_ = 0;
  std::set<std::pair<Time, std::pair<ClaimId, TaskId>>> ends_;
  std::vector<std::pair<ClaimId, TaskId>> victims_;
};

double percentile(std::vector<double>& values, double part) {
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1,
                         static_cast<std::size_t>(part * static_cast<double>(values.size())))];
}

}  // namespace

int main(int argc, char** argv) {
  const bool json = argc > 1 && std::strcmp(argv[1], "--json") == 0;
  std::printf(json ? "["
                   : "| queue | running | event | n | p50 µs | p99 µs | p99.9 µs | max µs |\n"
                     "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |\n");
  bool first = true;
  for (const Mix& mix : kMixes) {
    Bench bench(mix);
    bench.run();
    for (auto& [kind, times] : bench.times_us) {
      const double p50 = percentile(times, 0.5), p99 = percentile(times, 0.99),
                   p999 = percentile(times, 0.999), max = times.back();
      std::printf(
          json ? "%s{\"queue\":\"%s\",\"running\":%zu,\"event\":\"%s\",\"n\":%zu,\"p50_us\":%.1f,"
                 "\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f}"
               : "%s| %s | %zu | %s | %zu | %.1f | %.1f | %.1f | %.1f |\n",
          json && !first ? "," : "", mix.name, bench.running(), kind.c_str(), times.size(), p50,
          p99, p999, max);
      first = false;
    }
  }
  if (json) std::printf("]\n");
}
