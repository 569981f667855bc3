// Recovery, simulated: see docs/recovery.md. recovery_sim [--seeds N] [--first N] [--seconds N] |
// --seed N [--trace]
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include "base/files.h"
#include "disk.h"
#include "node_life.h"

namespace loam::simulation {
namespace {

constexpr int kStepsWithFaults = 300;
constexpr int kStepsToRest = 20'000;
constexpr std::size_t kJobsMax = 12;

const char* const kCrashPoints[] = {
    "node.attempt_committed", "node.folder_made", "node.cgroup_made",    "node.shim_started",
    "node.running_committed", "node.exit_seen",   "node.exit_committed", "node.exit_acknowledged"};

using Files = std::map<std::string, std::shared_ptr<DiskFile>>;

struct Outcome {
  std::string failure;
  std::uint64_t hash = 0, steps = 0;
};

class Story {
 public:
  Story(std::uint64_t seed, bool trace, const Files& disk) : world_(seed, trace) {
    World::current() = &world_;
    Disk::instance().reset(disk);
  }

  Outcome run() {
    for (int i = 0; i < kStepsWithFaults && world_.failure.empty(); ++i)
      step([this] { one_with_faults(); });
    world_.faults = false;
    world_.crash_at.clear();
    Disk& disk = Disk::instance();
    if (!node_) disk.process_starts();
    disk.full_after = disk.sync_fails_after = disk.dies_after = -1;
    world_.say("no more faults");
    bool rests = false;
    for (int i = 0; i < kStepsToRest && world_.failure.empty() && !rests; ++i)
      step([&] { rests = one_without_faults(); });
    if (world_.failure.empty() && !rests) world_.broken("it does not come to rest");
    if (rests) node_->check_at_rest();
    node_.reset();
    return {world_.failure, world_.hash, world_.steps};
  }

 private:
  template <typename Do>
  void step(Do act) {
    ++world_.steps;
    world_.time_passes(static_cast<std::int64_t>(world_.random.below(400)));
    try {
      act();
      if (node_ && Disk::instance().dead) throw NodeKilled{};
      if (node_) node_->check();
    } catch (const NodeKilled&) {
      world_.say("the node is dead");
      node_.reset();
    }
    world_.check();
  }

  void start_node() { node_ = std::make_unique<NodeLife>(world_, witness_); }

  void one_with_faults() {
    Random& random = world_.random;
    Disk& disk = Disk::instance();
    if (node_ && witness_.acknowledged.size() < kJobsMax && random.one_in(25))
      return node_->submit();
    switch (random.below(fault_spacing_)) {
      case 0:
        if (node_) throw NodeKilled{};
        return;
      case 1:
      case 2:
        world_.crash_at = kCrashPoints[random.below(std::size(kCrashPoints))];
        world_.crash_passages = 1 + static_cast<int>(random.below(2));
        return;
      case 3: {
        int& fault = random.one_in(3)   ? disk.full_after
                     : random.one_in(2) ? disk.sync_fails_after
                                        : disk.dies_after;
        if (node_) fault = static_cast<int>(random.below(12));
        return;
      }
      case 4:
        if (!random.one_in(3)) return;
        node_.reset();
        disk.power_cut(random);
        return world_.reboot();
      case 5:
        world_.wall += static_cast<std::int64_t>(random.below(20'000'000)) - 10'000'000;
        return world_.say("the clock jumps");
      case 6:
        return world_.kill_a_shim();
      case 7:
        if (node_) node_->cut_a_connection();
        return;
      case 8:
        if (node_) node_->stop_something(api::Outcome::preempted);
        return;
      case 9:
        if (node_)
          node_->stop_something(random.one_in(2) ? api::Outcome::cancelled
                                                 : api::Outcome::signaled);
        return;
      default:
        break;
    }
    if (random.one_in(3)) return world_.shim_step();
    if (!node_) {
      if (random.one_in(2)) start_node();
      return;
    }
    (void)node_->step();
  }

  bool one_without_faults() {
    if (!node_) {
      start_node();
      return false;
    }
    if (world_.random.one_in(3)) world_.shim_step();
    const bool did = node_->step();
    if (!did) node_->end_turn();
    if (!did && node_->all_drained()) {
      world_.reboot();
      throw NodeKilled{};
    }
    return !did && node_->at_rest();
  }

  World world_;
  const std::size_t fault_spacing_ =
      40 + world_.random.below(160);  // calm seeds come further, wild ones crash in recovery
  Witness witness_;
  std::unique_ptr<NodeLife> node_;
};

Outcome run_seed(std::uint64_t seed, bool trace, const Files& disk) {
  (void)remove_tree("attempts");
  (void)make_folders("attempts");
  return Story(seed, trace, disk).run();
}

// A database with all tables, once; each story begins with a copy.
Files fresh_disk() {
  World world(0, false);
  World::current() = &world;
  Disk::instance().reset({});
  (void)node::Database::open(kDatabase, node::migrations());
  return Disk::instance().files;
}

struct Options {
  std::uint64_t first = 1, seeds = 10'000, seconds = 0;
  bool one = false, trace = false;
};

std::uint64_t told_now = 0;

// An assert of the node's ends this process: the seed is what its reader needs.
void on_abort(int) {
  char line[64];
  const int size = std::snprintf(line, sizeof line, "seed %llu, step 0: the node aborts\n",
                                 static_cast<unsigned long long>(told_now));
  if (::write(1, line, static_cast<std::size_t>(size)) < 0) ::_exit(3);
  ::_exit(1);
}

int run_part(const Options& options, const std::string& folder, int part, int parts) {
  if (::chdir(folder.c_str()) != 0 || ::signal(SIGABRT, on_abort) == SIG_ERR ||
      ::signal(SIGSEGV, on_abort) == SIG_ERR)
    return 2;
  const Files disk = fresh_disk();
  const std::time_t end = std::time(nullptr) + static_cast<std::time_t>(options.seconds);
  std::uint64_t steps = 0, done = 0;
  int result = 0;
  for (std::uint64_t i = static_cast<std::uint64_t>(part); i < options.seeds;
       i += static_cast<std::uint64_t>(parts)) {
    if (options.seconds != 0 && std::time(nullptr) >= end) break;
    const std::uint64_t seed = told_now = options.first + i;
    Outcome outcome = run_seed(seed, options.trace, disk);
    // A seed is a story: told twice, it is the same one.
    if (outcome.failure.empty() && done % 100 == 0 &&
        run_seed(seed, false, disk).hash != outcome.hash)
      outcome.failure = "told twice, it went two ways";
    steps += outcome.steps;
    ++done;
    if (!outcome.failure.empty()) {
      std::printf("seed %llu, step %llu: %s\n", static_cast<unsigned long long>(seed),
                  static_cast<unsigned long long>(outcome.steps), outcome.failure.c_str());
      result = 1;
      break;
    }
  }
  std::printf("%llu seeds, %llu steps\n", static_cast<unsigned long long>(done),
              static_cast<unsigned long long>(steps));
  std::fflush(stdout);
  return result;
}

int run_parts(const Options& options) {
  const int parts =
      options.one ? 1 : static_cast<int>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
  timespec began{}, ended{};
  ::clock_gettime(CLOCK_MONOTONIC, &began);
  std::vector<std::string> folders;
  for (int part = 0; part < parts; ++part) {
    char folder[] = "/dev/shm/loam-recovery-sim-XXXXXX";
    if (::mkdtemp(folder) == nullptr) {
      std::perror(folder);
      return 2;
    }
    folders.emplace_back(folder);
    std::fflush(stdout);
    if (const pid_t child = ::fork(); child == 0) ::_exit(run_part(options, folder, part, parts));
  }
  bool failed = false;
  for (int status = 0; ::wait(&status) > 0;) failed = failed || status != 0;
  for (const std::string& folder : folders) (void)remove_tree(folder);
  ::clock_gettime(CLOCK_MONOTONIC, &ended);
  const double seconds = static_cast<double>(ended.tv_sec - began.tv_sec) +
                         static_cast<double>(ended.tv_nsec - began.tv_nsec) / 1e9;
  std::printf("%s, %.1f s on %d cores\n", failed ? "FAILED" : "all invariants held", seconds,
              parts);
  return failed ? 1 : 0;
}

}  // namespace
}  // namespace loam::simulation

int main(int count, char** arguments) {
  loam::simulation::Options options;
  for (int i = 1; i < count; ++i) {
    const std::string name = arguments[i];
    if (name == "--trace") {
      options.trace = true;
      continue;
    }
    char* end = nullptr;
    const std::uint64_t value = i + 1 < count ? std::strtoull(arguments[++i], &end, 10) : 0;
    std::uint64_t* const place = name == "--seeds"     ? &options.seeds
                                 : name == "--first"   ? &options.first
                                 : name == "--seconds" ? &options.seconds
                                 : name == "--seed"    ? &options.first
                                                       : nullptr;
    if (place == nullptr || end == nullptr || *end != '\0') {
      std::fprintf(stderr,
                   "recovery_sim [--seeds N] [--first N] [--seconds N] | --seed N [--trace]\n");
      return 2;
    }
    *place = value;
    if (name == "--seed") options.one = true, options.seeds = 1;
  }
  return loam::simulation::run_parts(options);
}
