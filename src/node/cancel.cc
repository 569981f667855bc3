// Ending what somebody no longer wants: a waiting job at once, a running one by its attempt's end.
#include "node/runs_impl.h"
#include "node/services.h"

namespace loam::node {

// False where nothing was to cancel.
bool Runs::Impl::cancel_job(JobRow job, const std::string& why) {
  if (job.ended() || (job.kind == "replica" && services->spared(job))) return false;
  if (job.tasks > 0 && job.runs()) return cancel_tasks(job, why);
  job.cancel = true;
  job.why = why;
  const auto attempt = last_attempt(job.id);
  const bool alive = attempt && attempt->state != "ended";
  // One that a lane was handed may have begun: the lane says (tasks_returned, or its exit).
  if (job.waits() && !(alive && attempt->in_lane())) {
    end_job(job, "cancelled", "", Json::object({{"why", why}}));
    return true;
  }
  tables.save(job);
  if (alive)
    node.supervisor.stop(attempt->id, api::Outcome::cancelled);
  return true;
}

std::vector<std::string> Runs::Impl::cancel_run(RunRow run, const std::string& why) {
  std::vector<std::string> cancelled;
  drop_preparation(run.id);
  const auto before = tables.parts_of(run.id);
  services->left(run.id, why);  // what stays of its services is another run's then
  for (const JobRow& job : tables.parts_of(run.id)) cancel_job(job, why);
  for (const JobRow& job : before)
    if (const auto now = tables.job(job.id);
        !job.ended() && !job.parked() && now && now->run == run.id && (now->cancel || now->ended()))
      cancelled.push_back(target_text(job));
  if (run.state == "preparing") {
    set_run_state(run, "cancelled", why);
  } else if (run.state == "serving") {
    set_run_state(run, "succeeded");
  } else {
    settle(run.id);
  }
  return cancelled;
}

}  // namespace loam::node
