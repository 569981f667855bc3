// Where an attempt goes on: the checkpoint folder of its job and what in it the last attempt
// finished.
#include <sys/stat.h>

#include <algorithm>

#include "base/files.h"
#include "base/text.h"
#include "node/findings.h"
#include "node/runs_impl.h"

namespace loam::node {
namespace {

// Of a file that the shim or a job wrote; 0 where there is none.
std::int64_t changed_ms(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return 0;
  return status.st_mtim.tv_sec * 1000 + status.st_mtim.tv_nsec / 1'000'000;
}

}  // namespace

std::string Runs::Impl::checkpoints_of(JobId job) const {
  return node.context.paths.checkpoints + "/" + std::to_string(job);
}

std::optional<Runs::Impl::CheckpointPlace> Runs::Impl::checkpoint_of(const RunRow& run,
                                                                     const JobRow& job) {
  const spec::Step* step = job.kind == "step" ? step_of(run, job) : nullptr;
  if (step == nullptr || !step->checkpoint) return {};
  CheckpointPlace place;
  place.folder = checkpoints_of(job.id);
  place.rule = {.match = step->checkpoint->match, .keep = step->checkpoint->keep};
  const auto last = last_attempt(job.id);
  if (!last || last->state != "ended") return place;
  place.last_end = attempt_end(last->number, last->exit, last->boot == node.boot_id,
                               last_sign_of_life(job, *last));
  return place;
}

// Of a lost one nobody saw the end: what it printed and recorded last tells that it lived.
std::int64_t Runs::Impl::last_sign_of_life(const JobRow& job, const AttemptView& attempt) const {
  std::int64_t alive_ms = attempt.started_ms;
  for (const std::string& trace : {node.supervisor.folder_of(attempt.id) + "/output/current.log",
                                   work_of(job, attempt.number) + "/run/metrics.jsonl"})
    alive_ms = std::max(alive_ms, changed_ms(trace));
  return alive_ms;
}

// Where the last attempt left off; what a person should hear of it is noted.
Result<void> resume_checkpoint(StartInputs& inputs, PlanInputs& plan) {
  const auto& place = *inputs.checkpoint;
  LOAM_CHECK(make_checkpoint_folder(place.folder, inputs.run.job_uid, inputs.run.job_gid));
  plan.checkpoint_folder = place.folder;
  if (!place.last_end) return {};
  auto settled = settle_checkpoints(place.folder, place.rule, *place.last_end);
  if (!settled) return in_context("checkpoint", settled.error());
  inputs.settled = std::move(*settled);
  plan.resume_from = inputs.settled.name;
  for (const std::string& name : inputs.settled.torn)
    inputs.notes.push_back("checkpoint " + printable(name) + " was not finished when attempt " +
                           std::to_string(place.last_end->number) + " ended; " +
                           (plan.resume_from.empty() ? "there is none before it"
                                                     : "the one before it is taken"));
  if (const std::uint64_t free = disk_free_bytes(place.folder);
      !plan.resume_from.empty() && free < inputs.settled.size_bytes)
    inputs.notes.push_back("the disk of Loam's state has " + format_size(free) +
                           " left, less than its last checkpoint (" +
                           format_size(inputs.settled.size_bytes) +
                           "); `loam store gc` or a smaller checkpoint.keep makes room");
  return {};
}

}  // namespace loam::node
