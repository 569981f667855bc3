// The scheduler in a made-up world: random machines, policies, claims, ends, drains, holds and
// preemptions, each drawn from one seed; every invariant after every event; the same seed twice
// gives the same trail. A failure prints its seed.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <random>
#include <set>

#include "base/sha256.h"
#include "sched/sched.h"

namespace loam::sched {
namespace {

constexpr std::uint64_t kGiB = 1ull << 30;
constexpr std::int64_t kMinute = 60'000;

struct Rules {
  bool fair_share = true;
  bool preemption = true;
  bool disturbances = true;  // drains, holds, priorities, machines that change
  bool all_limited = false;  // every claim has a limit and keeps it
  int events = 1500;
};

class Simulation {
 public:
  Simulation(std::uint64_t seed, const Rules& rules)
      : seed_(seed), rules_(rules), random_(seed), state_(make_state(machine(), policy())) {}

  // A digest of all that happened.
  std::string run() {
    for (int event = 0; event < rules_.events && !testing::Test::HasFailure(); ++event) {
      const Time then = now_ + static_cast<Time>(below(4 * kMinute));
      while (!tasks_.empty() && next_end()->second.ends <= then) end_one();
      now_ = std::max(now_, then);
      step();
    }
    if (!testing::Test::HasFailure()) drain_the_world();
    return sha256_of(trail_).hex();
  }

 private:
  struct Task {
    Time ends = 0;  // really
    bool preempted = false;
  };

  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
  bool chance(unsigned percent) { return below(100) < percent; }
  template <class T>
  const T& any_of(const std::vector<T>& list) {
    return list[below(list.size())];
  }

  Machine machine() {
    Machine made;
    const std::uint32_t nodes = 1 + static_cast<std::uint32_t>(below(2));
    const std::uint32_t cores = 2 + static_cast<std::uint32_t>(below(7));
    const std::uint32_t threads = 1 + static_cast<std::uint32_t>(below(2));
    for (std::uint32_t core = 0; core < nodes * cores; ++core)
      for (std::uint32_t thread = 0; thread < threads; ++thread)
        made.cpus.push_back({.id = core + thread * nodes * cores,
                             .core = core,
                             .numa = core / cores,
                             .cache = core / 2});
    made.memory_bytes.assign(nodes, (4 + below(30)) * kGiB);
    const std::uint32_t gpus = static_cast<std::uint32_t>(below(5));
    for (std::uint32_t i = 0; i < gpus; ++i) {
      Device gpu{.id = "gpu-" + std::to_string(i),
                 .kind = "gpu",
                 .model = i % 2 == 0 ? "NVIDIA H100" : "NVIDIA L4",
                 .memory_bytes = (i % 2 == 0 ? 80 : 24) * kGiB,
                 .numa = static_cast<std::int32_t>(i % nodes)};
      const std::uint64_t sort = below(4);
      if (sort == 1) gpu.sharing = {SharingMode::enforced, 4};
      if (sort == 2) gpu.sharing = {SharingMode::time_sliced, 3};
      made.devices.push_back(gpu);
      for (std::uint32_t slice = 0; sort == 3 && slice < 3; ++slice)
        made.devices.push_back({.id = gpu.id + "/" + std::to_string(slice),
                                .kind = "gpu",
                                .model = gpu.model + " MIG",
                                .memory_bytes = gpu.memory_bytes / 4,
                                .numa = gpu.numa,
                                .parent = gpu.id});
      if (i > 0) made.links.push_back({"gpu-" + std::to_string(i - 1), gpu.id, 100 * i});
    }
    for (std::uint64_t i = below(4); i > 0; --i)
      made.devices.push_back({.id = "licence-" + std::to_string(i), .kind = "licence"});
    return made;
  }

  Policy policy() {
    Policy made;
    made.fair_share = rules_.fair_share;
    made.preemption = rules_.preemption;
    made.half_life_ms = static_cast<std::int64_t>(1 + below(48)) * 60 * kMinute;
    made.reservations = 1 + static_cast<std::uint32_t>(below(8));
    made.accounts["lab"].shares = 1 + static_cast<std::uint32_t>(below(5));
    if (rules_.fair_share && chance(50)) {
      made.users["anna"].quota = Quota{.cpu_milli = 3000, .devices = {{"gpu", 1}}};
      made.accounts["shop"].quota = Quota{.running = 4};
    }
    return made;
  }

  Claim claim() {
    static const std::vector<std::string> kUsers{"anna", "bert", "carl", "dora"};
    static const std::vector<std::string> kAccounts{"lab", "shop"};
    Claim made{.id = next_++,
               .user = any_of(kUsers),
               .account = any_of(kAccounts),
               .rank = {.cpu_milli = (1 + below(8)) * 500, .memory_bytes = below(6) * kGiB}};
    if (rules_.preemption) {
      made.priority = static_cast<std::int32_t>(below(3));
      made.preemptible = chance(50);
      made.grace_ms = static_cast<std::int64_t>(below(3)) * kMinute;
      if (chance(10)) made.kind = ClaimKind::service;
    }
    if (rules_.all_limited || chance(70))
      made.time_limit_ms = static_cast<std::int64_t>(1 + below(120)) * kMinute;
    if (chance(15)) made.ranks = 2;
    if (chance(10)) made.rank.pin = true;
    if (chance(10)) {
      made.tasks = 2 + static_cast<std::uint32_t>(below(9));
      // A task that follows one of its own array stands before those who were promised a start.
      if (!rules_.all_limited) made.tasks_at_once = static_cast<std::uint32_t>(below(4));
    }
    if (rules_.disturbances && chance(5)) made.held = true;
    if (chance(40)) made.rank.devices.push_back(device_request());
    if (chance(5)) made.rank.devices.push_back({.kind = "licence"});
    return made;
  }

  DeviceRequest device_request() {
    DeviceRequest made{.count = 1 + static_cast<std::uint32_t>(below(2))};
    if (chance(25)) made.model = chance(50) ? "h100" : "l4";
    if (chance(25)) made.memory_bytes_min = 20 * kGiB;
    if (chance(20)) made.share = Share::part, made.share_permille = 500;
    if (chance(10)) made.share = Share::time_slice;
    return made;
  }

  void step() {
    const std::uint64_t dice = below(100);
    if (dice < 45) return submit(claim());
    if (dice < 85) return end_one();
    if (dice < 90) return cancel_one();
    if (rules_.disturbances) return disturb();
  }

  void submit(const Claim& made) {
    if (!refusal(state_, made).empty() || queue_refusal(state_, made, 1)) return;
    note("submit", made.id);
    happen([&](Actions& actions) { on_submitted(state_, made, now_, actions); });
  }

  std::map<std::pair<ClaimId, TaskId>, Task>::iterator next_end() {
    return std::min_element(tasks_.begin(), tasks_.end(), [](const auto& a, const auto& b) {
      return std::pair(a.second.ends, a.first) < std::pair(b.second.ends, b.first);
    });
  }

  // The task whose time comes first; time goes there.
  void end_one() {
    if (tasks_.empty()) return;
    const auto first = next_end();
    const ClaimId id = first->first.first;
    const TaskId task = first->first.second;
    const Task ended = first->second;
    now_ = std::max(now_, ended.ends);
    tasks_.erase(first);
    note(ended.preempted ? "requeue" : "end", id, task);
    happen([&](Actions& actions) {
      ended.preempted ? on_task_requeued(state_, id, task, now_, actions)
                      : on_task_ended(state_, id, task, now_, actions);
    });
  }

  void cancel_one() {
    if (state_.slots.empty()) return;
    auto victim = state_.slots.begin();
    std::advance(victim, static_cast<std::ptrdiff_t>(below(state_.slots.size())));
    const ClaimId id = victim->first;
    std::erase_if(tasks_, [&](const auto& task) { return task.first.first == id; });
    note("release", id);
    happen([&](Actions& actions) { on_released(state_, id, now_, actions); });
  }

  ClaimId any_claim() {
    auto found = state_.slots.begin();
    std::advance(found, static_cast<std::ptrdiff_t>(below(state_.slots.size())));
    return found->first;
  }

  void disturb() {
    if (state_.slots.empty()) return;
    const std::uint64_t dice = below(8);
    note("disturb", dice);
    happen([&](Actions& actions) {
      if (dice == 0) on_held(state_, any_claim(), now_, actions);
      if (dice <= 2) on_unheld(state_, any_claim(), now_, actions);
      if (dice == 3)
        on_priority_changed(state_, any_claim(), static_cast<std::int32_t>(below(3)), now_,
                            actions);
      if (dice == 4)
        on_limit_changed(state_, any_claim(), static_cast<std::int64_t>(below(60)) * kMinute, now_,
                         actions);
      if (dice == 5 && !state_.machine.devices.empty()) {
        static const std::vector<DeviceState> kStates{DeviceState::usable, DeviceState::usable,
                                                      DeviceState::drained, DeviceState::busy};
        on_device_changed(state_, any_of(state_.machine.devices).id, any_of(kStates), "dice", now_,
                          actions);
      }
      if (dice == 6 && chance(20)) on_machine_changed(state_, machine(), now_, actions);
      if (dice == 7) on_paused(state_, chance(50) ? "dice" : "", now_, actions);
    });
  }

  void happen(const std::function<void(Actions&)>& event) {
    Actions actions;
    event(actions);
    for (const Action& action : actions) take(action);
    const std::string wrong = insane(state_, now_);
    ASSERT_EQ(wrong, "") << "seed " << seed_ << " at " << now_;
    if (!rules_.fair_share) check_promises();
    for (const Action& action : actions)
      if (action.kind == Action::Kind::wake_at) {
        note("wake", 0);
        return happen([&](Actions& more) { on_time(state_, now_, more); });
      }
  }

  void take(const Action& action) {
    if (action.kind == Action::Kind::grant) {
      note("grant", action.claim, action.task);
      ASSERT_EQ(state_.paused, "") << "seed " << seed_;
      const Claim& claim = state_.find(action.claim)->claim;
      const std::uint64_t longest =
          claim.time_limit_ms > 0 ? static_cast<std::uint64_t>(claim.time_limit_ms) : 180 * kMinute;
      const Task task{.ends = now_ + 1 + static_cast<Time>(below(longest))};
      const bool fresh = tasks_.emplace(std::pair(action.claim, action.task), task).second;
      ASSERT_TRUE(fresh) << "seed " << seed_ << ": a task was granted twice";
      for (const RankPlacement& rank : action.placement.ranks)
        for (const DevicePart& part : rank.devices) trail_ += part.device + ";";
      std::erase_if(asked_to_go_, [&](const auto& one) { return one.first == action.claim; });
    }
    if (action.kind == Action::Kind::preempt) {
      note("preempt", action.claim, action.task);
      const Entry* victim = state_.find(action.claim);
      ASSERT_NE(victim, nullptr);
      ASSERT_EQ(victim->claim.kind, ClaimKind::job);
      ASSERT_TRUE(victim->claim.preemptible);
      ASSERT_LT(victim->claim.priority, state_.find(action.beneficiary)->claim.priority);
      Task& task = tasks_.at({action.claim, action.task});
      ASSERT_FALSE(task.preempted) << "seed " << seed_ << ": asked to go twice";
      task.preempted = true;
      task.ends = std::min(task.ends, now_ + victim->claim.grace_ms);
      ASSERT_TRUE(asked_to_go_.insert({action.beneficiary, action.claim}).second ||
                  victim->claim.tasks > 1 || rules_.disturbances)
          << "seed " << seed_ << ": " << action.claim << " went for " << action.beneficiary
          << " and came back before it";
    }
  }

  // What was promised holds whatever was given to those behind, and the first in line never waits
  // longer than it was once told.
  void check_promises() {
    if (state_.decided != now_) return;  // what has just happened changed nothing
    const Outlook outlook = look_ahead(state_, now_, state_.reservations.size());
    ASSERT_EQ(outlook.order.size(), state_.reservations.size()) << "seed " << seed_;
    for (std::size_t i = 0; i < outlook.order.size(); ++i) {
      ASSERT_EQ(outlook.order[i].claim, state_.reservations[i].claim) << "seed " << seed_;
      ASSERT_EQ(outlook.order[i].start, state_.reservations[i].start)
          << "seed " << seed_ << ": somebody behind delayed claim " << outlook.order[i].claim;
    }
    if (state_.reservations.empty() || rules_.disturbances || !rules_.all_limited) return;
    const Reservation& first = state_.reservations.front();
    ASSERT_TRUE(first.start.has_value()) << "seed " << seed_;
    const std::pair task(first.claim, state_.find(first.claim)->pending.first());
    if (task == first_in_line_) {
      ASSERT_LE(*first.start, promised_) << "seed " << seed_ << ": claim " << first.claim;
    }
    first_in_line_ = task;
    promised_ = *first.start;
  }

  // No more arrivals, everything in order: all that waits runs and ends.
  void drain_the_world() {
    rules_.disturbances = false;
    happen([&](Actions& actions) { on_paused(state_, "", now_, actions); });
    happen([&](Actions& actions) {
      on_policy_changed(state_,
                        {.reservations = 4, .fair_share = rules_.fair_share, .preemption = false},
                        now_, actions);
    });
    for (const Device& device : std::vector<Device>(state_.machine.devices))
      happen([&](Actions& actions) {
        on_device_changed(state_, device.id, DeviceState::usable, "", now_, actions);
      });
    std::vector<ClaimId> all;
    for (const auto& [id, slot] : state_.slots) all.push_back(id);
    for (const ClaimId id : all) {
      happen([&](Actions& actions) { on_unheld(state_, id, now_, actions); });
      // Machines change; what no longer fits any would wait for ever.
      if (const Entry* entry = state_.find(id);
          entry != nullptr && entry->running.empty() && !refusal(state_, entry->claim).empty())
        happen([&](Actions& actions) { on_released(state_, id, now_, actions); });
    }
    for (int left = 100'000; !tasks_.empty() && !testing::Test::HasFailure(); --left) {
      ASSERT_GT(left, 0) << "seed " << seed_ << ": it does not end";
      end_one();
    }
    for (const auto& [id, slot] : state_.slots)
      ASSERT_FALSE(refusal(state_, state_.entries[slot].claim).empty())
          << "seed " << seed_ << ": claim " << id << " waits on an empty machine";
  }

  void note(const char* what, std::uint64_t a, std::uint64_t b = 0) {
    trail_ += std::to_string(now_) + what + std::to_string(a) + "." + std::to_string(b) + ";";
  }

  std::uint64_t seed_;
  Rules rules_;
  std::mt19937_64 random_;
  State state_;
  Time now_ = 0;
  ClaimId next_ = 1;
  std::map<std::pair<ClaimId, TaskId>, Task> tasks_;
  std::set<std::pair<ClaimId, ClaimId>> asked_to_go_;  // beneficiary, victim
  std::pair<ClaimId, TaskId> first_in_line_{0, 0};
  Time promised_ = 0;
  std::string trail_;
};

void simulate(std::uint64_t first_seed, std::uint64_t seeds, const Rules& rules) {
  std::string previous;
  for (std::uint64_t seed = first_seed; seed < first_seed + seeds; ++seed) {
    const std::string digest = Simulation(seed, rules).run();
    ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed;
    if (seed % 10 == 0) {
      ASSERT_EQ(digest, Simulation(seed, rules).run()) << "seed " << seed;
    }
    ASSERT_NE(digest, previous) << "seed " << seed;
    previous = digest;
  }
}

TEST(Simulation, StaysSaneAndRepeatsBySeed) { simulate(1, 60, {}); }

TEST(Simulation, NobodyBehindDelaysAReservation) {
  simulate(1001, 60, {.fair_share = false, .preemption = false});
}

TEST(Simulation, TheFirstInLineStartsWhenItWasTold) {
  simulate(2001, 60,
           {.fair_share = false, .preemption = false, .disturbances = false, .all_limited = true});
}

TEST(Simulation, NobodyIsPreemptedTwiceForTheSame) {
  simulate(3001, 60, {.fair_share = false, .preemption = true, .disturbances = false});
}

}  // namespace
}  // namespace loam::sched
