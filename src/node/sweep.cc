// A step that is many tasks: one for each combination of its `sweep:`. Each is a job of its own,
// with attempts, retries, checkpoints and output as any step has; the step's own job has none and
// is over when its last task is.
//
//   consider_step ─ begin_sweep: one transaction, all tasks ─▶ queue … ─ end_job(task) ─▶
//   task_ended ─ the last one ─▶ end_job(step): failed where one failed, cancelled where one was,
//   else succeeded
//
// What a node that dies leaves is rows: tasks that wait, run, or have ended, each exactly once.
#include <algorithm>

#include "base/crash_point.h"
#include "base/text.h"
#include "node/runs_impl.h"

namespace loam::node {

void Runs::Impl::begin_sweep(const RunRow& run, JobRow& job, const spec::Step& step) {
  const auto params = spec::task_params(step.sweep);
  job.tasks = static_cast<std::int64_t>(params.size());
  job.state = "running";
  tables.save(job);
  std::vector<JobRow> tasks;
  for (std::size_t i = 0; i < params.size(); ++i) {
    JobRow task;
    task.run = run.id;
    task.kind = "step";
    task.name = spec::task_name(step.name, i + 1);
    task.step = step.name;
    task.sweep = job.id;
    task.task = static_cast<std::int64_t>(i + 1);
    task.params = params[i];
    task.state = "queued";
    task.cpu_milli = job.cpu_milli;
    task.memory_bytes = job.memory_bytes;
    task.request = job.request;
    task.env = job.env;
    task.held = job.held;
    task.created_ms = job.created_ms;
    task.id = tables.insert(task);
    tasks.push_back(std::move(task));
  }
  LOAM_CRASH_POINT("node.sweep_begun");
  for (JobRow& task : tasks) step.shares_sandbox ? await_lane(task) : enqueue(task);
}

// In the transaction that ends the task.
void Runs::Impl::task_ended(const JobRow& task) {
  if (tables.has_open_task(task.sweep)) return;
  auto sweep = tables.job(task.sweep);
  if (!sweep || sweep->ended()) return;
  auto states = tables.task_states(sweep->id);
  const std::int64_t failed = states["failed"], cancelled = states["cancelled"];
  if (lanes.shares.erase(sweep->id) != 0) look_at_lanes(sweep->id);
  const std::string of_all = " of " + std::to_string(sweep->tasks) + " tasks ";
  if (const auto first = tables.first_failed(sweep->id))
    return end_job(*sweep, "failed",
                   std::to_string(failed) + of_all + "failed; " + first->name + ": " + first->error,
                   Json::object({{"error_line", ""}}));
  if (cancelled > 0) {
    const std::string why =
        sweep->why.empty() ? std::to_string(cancelled) + of_all + "were cancelled" : sweep->why;
    return end_job(*sweep, "cancelled", "", Json::object({{"why", why}}));
  }
  end_job(*sweep, "succeeded", "");
}

bool Runs::Impl::cancel_tasks(JobRow& sweep, const std::string& why) {
  sweep.cancel = true;
  sweep.why = why;
  tables.save(sweep);
  bool any = false;
  for (const JobRow& task : tables.tasks_of(sweep.id)) any = cancel_job(task, why) || any;
  return any;
}

namespace {

// Whose tasks are the step's: an unchanged one's are those of the job that counts.
JobId with_tasks(const JobRow& step) { return step.state == "unchanged" ? step.source : step.id; }

}  // namespace

std::vector<JobRow> Runs::Impl::tasks_of(const JobRow& step) {
  return tables.tasks_of(with_tasks(step));
}

std::map<std::string, std::string> Runs::Impl::output_trees(const JobRow& step) {
  std::map<std::string, std::string> trees;
  if (!step.tree.empty()) trees[step.name] = step.tree;
  for (const JobRow& task : tasks_of(step))
    if (!task.tree.empty()) trees[task.name] = task.tree;
  return trees;
}

std::vector<JobRow> Runs::Impl::made_before(const RunRow& run, const spec::Step& step) {
  std::vector<JobRow> made;
  if (step.after.empty()) return made;
  for (JobRow& other : tables.parts_of(run.id)) {
    const bool before =
        std::find(step.after.begin(), step.after.end(), other.name) != step.after.end();
    if (other.kind != "step" || !before) continue;
    for (JobRow& task : tasks_of(other)) made.push_back(std::move(task));
    made.push_back(std::move(other));
  }
  std::erase_if(made, [](const JobRow& job) { return job.model.empty(); });
  return made;
}

// The last that failed, else the newest with an attempt.
std::optional<JobRow> Runs::Impl::telling_task(const JobRow& sweep) {
  std::optional<JobRow> found;
  for (JobRow& task : tasks_of(sweep)) {
    const bool failed = task.state == "failed";
    if (!failed && found && found->state == "failed") continue;
    if (failed || last_attempt(task.id)) found = std::move(task);
  }
  return found;
}

// Null where the step is no sweep.
Json Runs::Impl::task_counts(const JobRow& step) {
  if (step.tasks == 0 && step.state != "unchanged") return {};
  const auto states = tables.task_states(with_tasks(step));
  if (states.empty()) return {};
  std::int64_t done = 0, running = 0, waiting = 0, failed = 0, cancelled = 0;
  for (const auto& [state, count] : states) {
    JobRow of_state;
    of_state.state = state;
    if (of_state.runs()) running += count;
    if (of_state.waits()) waiting += count;
    if (state == "succeeded") done = count;
    if (state == "failed") failed = count;
    if (state == "cancelled") cancelled = count;
  }
  return Json::object({{"done", done},
                       {"running", running},
                       {"waiting", waiting},
                       {"failed", failed},
                       {"cancelled", cancelled}});
}

Json Runs::Impl::tasks_json(const RunRow& run, const JobRow& sweep) {
  Json list = Json::array();
  const sched::Outlook outlook = node.queue.look_ahead();
  for (const JobRow& task : tasks_of(sweep)) {
    Json one = job_json(run, task, &outlook);
    one.set("task", task.task);
    one.set("params", task.params);
    one.set("metrics", task.metrics);
    list.push(std::move(one));
  }
  return list;
}

}  // namespace loam::node
