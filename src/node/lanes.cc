// Tasks of a sweep that share sandboxes (`tasks: {share: sandbox}`). A lane is a job of its own, of
// kind `lane`: the claim of one task, and an attempt whose sandbox takes the step's tasks one after
// another. The queue knows of lanes alone; a task waits here and is handed to a lane.
//
//   begin_sweep ─ await_lane ─▶ feed_lanes: as many lanes as may run at once ─▶ queue ─ granted ─▶
//   lane_runs ─ hand_task … exits ─ hand_task … nothing waits ─ close ─▶ lane_ended
//
// A lane that dies costs the task that ran in it; what it had not begun waits again.
#include <algorithm>

#include "base/clock.h"
#include "base/crash_point.h"
#include "base/files.h"
#include "node/runs_impl.h"

namespace loam::node {
namespace {

constexpr std::uint64_t kLanesMax = 64;     // of one sweep
constexpr std::size_t kWindowMax = 64;      // tasks that a lane holds
constexpr std::int64_t kShortTaskMs = 100;  // such tasks are handed ahead
constexpr std::chrono::milliseconds kBrokenLanePause{1500};

}  // namespace

bool Runs::Impl::shares_sandbox(const JobRow& task) {
  if (task.sweep == 0 || task.kind != "step") return false;
  const auto known = lanes.shares.find(task.sweep);
  if (known != lanes.shares.end()) return known->second;
  const auto run = tables.run(task.run);
  const spec::Step* step = run ? step_of(*run, task) : nullptr;
  return lanes.shares[task.sweep] = step != nullptr && step->shares_sandbox;
}

// Looked at once in this turn, however many wait.
void Runs::Impl::await_lane(const JobRow& task) {
  lanes.waiting[task.sweep].insert(task.id);
  look_at_lanes(task.sweep);
}

void Runs::Impl::look_at_lanes(JobId sweep) {
  if (lanes.due.empty()) node.loop.post([this] { feed_lanes(); });
  lanes.due.insert(sweep);
}

void Runs::Impl::feed_lanes() {
  if (!resumed) return lanes.due.clear();  // resume() looks at all
  for (const JobId sweep : std::exchange(lanes.due, {})) {
    const auto first = next_waiting(sweep);
    if (first) open_lanes(sweep, static_cast<std::int64_t>(lanes.waiting[sweep].size()));
    for (auto& [job, lane] : lanes.open)
      if (lane.sweep == sweep) feed_lane(lane);
    if (first || next_waiting(sweep)) continue;
    // What still waits for its turn in the queue has nothing to do there.
    for (JobRow& lane : tables.jobs(
             "sweep=? AND sweep<>0 AND kind='lane' AND state IN ('queued','preempted')", {sweep}))
      if (!starting.contains(lane.id)) end_job(lane, "cancelled", "");
    if (lanes.waiting[sweep].empty()) lanes.waiting.erase(sweep);
  }
}

// The first that may begin; what has been cancelled meanwhile is forgotten here.
std::optional<JobRow> Runs::Impl::next_waiting(JobId sweep) {
  auto& waiting = lanes.waiting[sweep];
  for (auto at = waiting.begin(); at != waiting.end();) {
    auto task = tables.job(*at);
    if (!task || !task->in_queue() || task->cancel) {
      at = waiting.erase(at);
      continue;
    }
    if (task->held.empty()) return task;
    ++at;
  }
  return std::nullopt;
}

// As many as the machine could run at once; which of them do is the queue's to say.
void Runs::Impl::open_lanes(JobId sweep, std::int64_t waiting) {
  const auto step = tables.job(sweep);
  if (!step || step->ended()) return;
  const std::uint64_t cpus = node.queue.state().machine.cpu_milli_total();
  const std::uint64_t each =
      std::max<std::uint64_t>(static_cast<std::uint64_t>(step->cpu_milli), 1);
  const auto fit = static_cast<std::int64_t>(std::clamp<std::uint64_t>(cpus / each, 1, kLanesMax));
  const std::int64_t there =
      tables.count("sweep=? AND sweep<>0 AND kind='lane' AND " + std::string(kOpenJob), {sweep});
  for (std::int64_t i = there; i < std::min(fit, waiting); ++i) {
    JobRow lane;
    lane.run = step->run;
    lane.kind = "lane";
    lane.name = step->name + "*";  // no step can be named so
    lane.step = step->name;
    lane.sweep = sweep;
    lane.state = "queued";
    lane.cpu_milli = step->cpu_milli;
    lane.memory_bytes = step->memory_bytes;
    lane.request = step->request;
    lane.env = step->env;
    lane.created_ms = step->created_ms;
    lane.id = tables.insert(lane);
    enqueue(lane);
  }
}

void Runs::Impl::lane_runs(const JobRow& job, AttemptId attempt) {
  Lanes::Lane& lane = lanes.open[job.id];
  lane = {.job = job.id, .sweep = job.sweep, .attempt = attempt, .handed = {}};
  for (const AttemptId handed : node.supervisor.handed(attempt)) lane.handed.insert(handed);
  look_at_lanes(job.sweep);
}

void Runs::Impl::feed_lane(Lanes::Lane& lane) {
  if (lane.closed || !node.supervisor.takes_tasks(lane.attempt)) return;
  const bool paused = !node.queue.state().paused.empty();
  while (!paused && lane.handed.size() < lane.window) {
    const auto task = next_waiting(lane.sweep);
    if (!task) break;
    hand_task(lane, *task);
  }
  if (lane.handed.empty()) rest_lane(lane);
}

// It has nothing to do: it gets what another one has not begun, or goes.
void Runs::Impl::rest_lane(Lanes::Lane& lane) {
  const bool paused = !node.queue.state().paused.empty();
  Lanes::Lane* most = nullptr;
  for (auto& [job, other] : lanes.open)
    if (other.sweep == lane.sweep && (most == nullptr || other.handed.size() > most->handed.size()))
      most = &other;
  if (!paused && most != nullptr && most->handed.size() > 1) {
    if (node.supervisor.takes_tasks(most->attempt)) node.supervisor.give_back(most->attempt);
    return;
  }
  lane.closed = true;
  node.supervisor.close(lane.attempt);
}

void Runs::Impl::hand_task(Lanes::Lane& lane, const JobRow& task) {
  const auto run = tables.run(task.run);
  const spec::Step* step = run ? step_of(*run, task) : nullptr;
  lanes.waiting[lane.sweep].erase(task.id);
  if (step == nullptr) {
    JobRow unreadable = task;
    end_job(unreadable, "failed", "its file can no longer be read; submit it again");
    return consider(task.run);
  }
  const auto last = last_attempt(task.id);
  const int number = last ? last->number + 1 : 1;
  lane.handed.insert(node.supervisor.hand(
      lane.attempt, {.job = task.id,
                     .number = number,
                     .environment = Json::object({{"LOAM_TASK", std::to_string(task.task)},
                                                  {"LOAM_PARAMS", params_of(*step, task).dump()},
                                                  {"LOAM_ATTEMPT", std::to_string(number)}}),
                     .work = work_of(task, number)}));
  attempt_known(task.id);
}

// Its exit, in whose turn this is, has consequences of its own (on_exit).
void Runs::Impl::task_left_lane(const AttemptView& attempt, const api::ExitRecord& record) {
  for (auto& [job, lane] : lanes.open) {
    if (lane.attempt != attempt.lane) continue;
    lane.handed.erase(attempt.id);
    const bool brief = record.ended_ms - record.started_ms < kShortTaskMs;
    lane.window = brief ? std::min(lane.window + 1, kWindowMax) : 1;
    look_at_lanes(lane.sweep);
  }
}

void Runs::Impl::tasks_returned(AttemptId attempt,
                                const std::vector<std::pair<AttemptId, JobId>>& tasks) {
  if (!resumed) return;  // resume() finds them among those that wait
  for (auto& [job, lane] : lanes.open) {
    if (lane.attempt != attempt) continue;
    for (const auto& [task, its_job] : tasks) lane.handed.erase(task);
    look_at_lanes(lane.sweep);
    // Shared out anew, one by one.
    for (auto& [other_job, other] : lanes.open)
      if (other.sweep == lane.sweep && !tasks.empty()) other.window = 1;
  }
  for (const auto& [task, its_job] : tasks) {
    auto job = tables.job(its_job);
    if (!job || job->ended()) continue;
    job->preempt.clear();
    if (!job->cancel) {
      tables.save(*job);
      await_lane(*job);
      continue;
    }
    end_job(*job, "cancelled", "", Json::object({{"why", job->why}}));
    consider(job->run);
  }
}

void Runs::Impl::lane_ended(JobRow& job, const AttemptView& attempt, const api::ExitRecord& record,
                            bool reboot) {
  lanes.open.erase(job.id);
  node.db.after_commit([this, work = work_of(job, attempt.number)] {
    node.loop.offload([work] { (void)remove_tree(work); }, [] {});
  });
  if (record.outcome == api::Outcome::lost) return on_lost(job, reboot);
  job.lost = 0;
  if (!resumed) {  // resume() looks at what is left to do
    job.state = "queued";
    return tables.save(job);
  }
  if (record.outcome == api::Outcome::failed_to_start)
    return end_job(job, "failed", describe_exit(record));
  if (job.cancel || !next_waiting(job.sweep)) return end_job(job, "succeeded", "");
  if (record.outcome == api::Outcome::preempted) {
    ++job.preemptions;
    return requeue_preempted(job);
  }
  if (succeeded(record)) return enqueue(job);
  // Its first process was killed, or its disk was full: whatever did that may still be at it.
  enqueue_later(job, kBrokenLanePause, describe_exit(record));
}

// Where lanes cannot be had, what waits for one has no way to run.
void Runs::Impl::lane_over(const JobRow& job) {
  lanes.open.erase(job.id);
  if (job.state != "failed" || !resumed) return;
  for (const JobId id : std::exchange(lanes.waiting[job.sweep], {})) {
    auto task = tables.job(id);
    if (task && task->in_queue()) end_job(*task, "failed", job.error);
  }
  consider(job.run);
}

// What a waiting task waits for is told of the first lane that does; none where all run.
std::optional<JobId> Runs::Impl::waiting_lane(JobId sweep) {
  const auto found = tables.jobs(
      "sweep=? AND sweep<>0 AND kind='lane' AND state IN ('queued','preempted') ORDER BY id LIMIT "
      "1",
      {sweep});
  return found.empty() ? std::nullopt : std::optional(found[0].id);
}

std::vector<JobRow> Runs::Impl::running_lanes(JobId sweep) {
  return tables.jobs("sweep=? AND sweep<>0 AND kind='lane' AND state='running'", {sweep});
}

}  // namespace loam::node
