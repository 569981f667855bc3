#include "sim/simulate.h"

#include <time.h>

#include <algorithm>
#include <queue>
#include <tuple>

namespace loam::sim {
namespace {

using sched::Action;
using sched::Actions;
using sched::ClaimId;
using sched::Time;

constexpr std::size_t kProgressEvery = 1000;  // events
constexpr std::size_t kReasonsMax = 1000;     // why jobs were refused; more are counted together

// Of this thread: on a machine that does other things too, a clock on the wall measures those.
double thread_us() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}

class Simulation {
 public:
  Simulation(const Trace& trace, const Options& options)
      : trace_(trace),
        options_(options),
        state_(sched::make_state(options.machine, options.policy)),
        running_(trace.jobs.size()) {
    outcome_.jobs.resize(trace.jobs.size());
    outcome_.decisions_us.reserve(trace.jobs.size() * 2);
  }

  Outcome run() {
    std::size_t next = 0;
    for (std::size_t events = 0; next < trace_.jobs.size() || !ends_.empty(); ++events) {
      drop_old_ends();
      // What ends at the same moment has made room.
      if (!ends_.empty() &&
          (next == trace_.jobs.size() || ends_.top().time <= trace_.jobs[next].submit_ms))
        end_first();
      else if (next < trace_.jobs.size())
        submit(next++);
      if (options_.progress && events % kProgressEvery == 0)
        options_.progress(ended_, trace_.jobs.size());
    }
    return std::move(outcome_);
  }

 private:
  struct End {
    Time time = 0;
    std::uint32_t job = 0;
    std::uint32_t version = 0;
    bool operator>(const End& other) const {
      return std::tie(time, job) > std::tie(other.time, other.job);
    }
  };
  struct Running {
    Time started = 0;
    Time ends = 0;
    std::int64_t done_ms = 0;   // kept from tries before
    std::uint32_t version = 0;  // of its end: an older one in ends_ does not count
    bool preempted = false;
  };

  static ClaimId claim_of(std::size_t job) { return job + 1; }
  static std::size_t job_of(ClaimId claim) { return claim - 1; }

  std::int64_t limit_of(const Job& job) const {
    if (options_.limits == Limits::none) return 0;
    // A limit of nothing would be none.
    if (options_.limits == Limits::exact) return std::max<std::int64_t>(job.duration_ms, 1);
    return job.limit_ms;
  }

  std::string account_of(const Job& job) const {
    if (!trace_.accounts[job.account].empty()) return trace_.accounts[job.account];
    const auto own = options_.accounts.find(trace_.users[job.user]);
    return own == options_.accounts.end() ? "default" : own->second;
  }

  sched::Claim claim(std::size_t index) const {
    const Job& job = trace_.jobs[index];
    sched::Claim claim{.id = claim_of(index),
                       .user = trace_.users[job.user],
                       .account = account_of(job),
                       .priority = job.priority,
                       .preemptible = job.preemptible || options_.preemptible,
                       .time_limit_ms = limit_of(job),
                       .grace_ms = options_.grace_ms};
    claim.rank.cpu_milli = job.cpu_milli;
    claim.rank.memory_bytes = options_.memory ? job.memory_bytes : 0;
    const bool shared =
        !options_.machine.devices.empty() &&
        options_.machine.devices.front().sharing.mode == sched::SharingMode::enforced;
    if (job.gpu_milli > 0 && job.gpu_milli < 1000 && shared)
      claim.rank.devices = {{.share = sched::Share::part,
                             .share_permille = static_cast<std::uint32_t>(job.gpu_milli)}};
    else if (job.gpu_milli > 0)
      claim.rank.devices = {{.count = static_cast<std::uint32_t>((job.gpu_milli + 999) / 1000)}};
    return claim;
  }

  void submit(std::size_t index) {
    now_ = trace_.jobs[index].submit_ms;
    const sched::Claim made = claim(index);
    std::string why = refusal(state_, made);
    if (const auto full = queue_refusal(state_, made, 1); why.empty() && full) why = full->text;
    if (!why.empty()) {
      outcome_.jobs[index].state = JobState::refused;
      ++ended_;
      if (outcome_.refusals.size() >= kReasonsMax && !outcome_.refusals.contains(why))
        why = "other reasons";
      ++outcome_.refusals[why];
      return;
    }
    decide([&](Actions& actions) { on_submitted(state_, made, now_, actions); });
    outcome_.waiting_most = std::max(outcome_.waiting_most, state_.waiting.size());
  }

  void drop_old_ends() {
    while (!ends_.empty() && ends_.top().version != running_[ends_.top().job].version) ends_.pop();
  }

  void end_first() {
    const End end = ends_.top();
    ends_.pop();
    now_ = end.time;
    Running& running = running_[end.job];
    JobOutcome& outcome = outcome_.jobs[end.job];
    const std::int64_t worked = now_ - running.started;
    outcome.worked_ms += worked;
    ++running.version;
    if (running.preempted) {
      ++outcome.preemptions;
      (options_.resume ? running.done_ms : outcome.lost_ms) += worked;
      running.preempted = false;
      return decide(
          [&](Actions& actions) { on_task_requeued(state_, claim_of(end.job), 0, now_, actions); });
    }
    outcome.end_ms = now_;
    outcome.state = running.done_ms + worked < trace_.jobs[end.job].duration_ms
                        ? JobState::at_limit
                        : JobState::finished;
    ++ended_;
    decide([&](Actions& actions) { on_task_ended(state_, claim_of(end.job), 0, now_, actions); });
  }

  // One event, and what a decision that was cut short leaves to the next.
  template <class Event>
  void decide(const Event& event) {
    Actions actions;
    measure([&] { event(actions); });
    for (;;) {
      bool again = false;
      for (const Action& action : actions) again = take(action) || again;
      if (!again) return;
      actions.clear();
      measure([&] { on_time(state_, now_, actions); });
    }
  }

  template <class Event>
  void measure(const Event& event) {
    const double begin = thread_us();
    event();
    outcome_.decisions_us.push_back(static_cast<float>(thread_us() - begin));
  }

  // true: the scheduler wants to be called again.
  bool take(const Action& action) {
    if (action.kind == Action::Kind::wake_at) return true;
    const std::size_t index = job_of(action.claim);
    Running& running = running_[index];
    if (action.kind == Action::Kind::grant) {
      const std::int64_t left = trace_.jobs[index].duration_ms - running.done_ms;
      const std::int64_t limit = limit_of(trace_.jobs[index]);
      running.started = now_;
      if (outcome_.jobs[index].start_ms < 0) outcome_.jobs[index].start_ms = now_;
      outcome_.jobs[index].gpu_milli = 0;
      for (const sched::DevicePart& part : action.placement.ranks[0].devices)
        outcome_.jobs[index].gpu_milli += 1000ull * part.parts / part.of;
      end_at(index, now_ + (limit > 0 ? std::min(left, limit) : left));
    } else {
      // Within its grace it may end by itself.
      const Time latest = now_ + options_.grace_ms;
      if (running.ends <= latest) return false;
      running.preempted = true;
      end_at(index, latest);
    }
    return false;
  }

  void end_at(std::size_t index, Time time) {
    running_[index].ends = time;
    ends_.push({time, static_cast<std::uint32_t>(index), ++running_[index].version});
  }

  const Trace& trace_;
  const Options& options_;
  sched::State state_;
  Time now_ = 0;
  std::size_t ended_ = 0;
  std::vector<Running> running_;
  std::priority_queue<End, std::vector<End>, std::greater<>> ends_;
  Outcome outcome_;
};

}  // namespace

Outcome simulate(const Trace& trace, const Options& options) {
  return Simulation(trace, options).run();
}

}  // namespace loam::sim
