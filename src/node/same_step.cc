// Two runs of one project at once: a step that another of them has queued or runs, with the same
// key, is waited for; what comes of it counts for both. Steps whose inputs differ do not wait.
//
//   consider_step ─ under way elsewhere? ─▶ blocked, says where ─ its end (end_job) ─▶ consider
//   again: unchanged, or ours to run
//
// Who waits holds no claim and nobody waits for him, so that no two can wait for each other.
// Nothing is kept: a node that starts again considers every run.
#include "node/runs_impl.h"

namespace loam::node {

bool Runs::Impl::waits_for_same_step(const RunRow& run, JobRow& job) {
  if (run.options["force"].as_bool()) return false;
  const auto under_way = tables.same_step_under_way(run, job);
  if (!under_way) return false;
  const std::string why = "waits for " + target_text(*under_way) +
                          ", the same step with the same inputs (loam logs -f " +
                          target_text(*under_way) + ")";
  if (job.why == why) return true;
  job.why = why;
  tables.save(job);
  step_event(job, Json::object({{"why", why}}));
  return true;
}

// In a turn of its own: the ended job's run goes first.
void Runs::Impl::wake_same_steps(const JobRow& ended) {
  if (ended.kind != "step" || !resumed) return;
  const auto ours = tables.run(ended.run);
  if (!ours) return;
  for (const RunRow& run :
       tables.runs("state='running' AND uid=? AND folder=? AND id<>? ORDER BY id",
                   {std::int64_t{ours->uid}, ours->folder, ours->id}))
    node.loop.post([this, id = run.id] { consider(id); });
}

}  // namespace loam::node
