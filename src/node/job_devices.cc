// A job and what it was granted: into its plan, back where it turns out to be in use, and found
// again by the next node.
#include "node/job_request.h"
#include "node/runs_impl.h"
#include "node/services.h"

namespace loam::node {
namespace {

// Its streams ended with the attempt: nobody could rejoin another one.
bool is_attended(const RunRow& run, const JobRow& job) {
  const Json& command = run.options["command"];
  return job.kind == "shell" || command["terminal"].as_bool() ||
         command["standard_input"].as_bool();
}

// Who has the devices, for people of other nodes.
std::string lock_owner(const NodeContext& context) {
  const std::string whose =
      context.identity.rootless ? user_name(context.identity.owner_uid) + "'s" : "the system's";
  return whose + " node (" + context.paths.state + ")";
}

}  // namespace

DeviceGrant Runs::Impl::grant_of(const JobRow& job) const {
  DeviceGrant grant;
  const sched::Placement* placement = node.queue.placement(job.id);
  if (placement == nullptr || placement->ranks.empty()) return grant;
  const sched::RankPlacement all = all_ranks(*placement);
  grant.units = node.devices.granted(all.devices);
  grant.cpus = all.cpus;
  if (job.request.has("ranks"))
    for (const sched::RankPlacement& rank : placement->ranks)
      grant.ranks.push_back({.units = node.devices.granted(rank.devices), .cpus = rank.cpus});
  for (const std::uint32_t index : all.numa_nodes)
    if (index < node.hardware.cpus.nodes.size())
      grant.memory_nodes.push_back(node.hardware.cpus.nodes[index].id);
  grant.huge_page_bytes = node.devices.huge_pages().page_bytes;
  grant.huge_bytes = static_cast<std::uint64_t>(job.request["huge_bytes"].as_int()) * ranks_of(job.request);
  return grant;
}

// Busy from now on for the scheduler, which finds the job another one or lets it wait.
void Runs::Impl::try_elsewhere(const JobRow& job, const DeviceTrouble& trouble) {
  node.devices.found_busy(trouble);
  node.queue.requeue(job.id);
  node.devices.watch_for_waiting();
  if (!starting.contains(job.id)) tell_why_it_waits(job.id);
}

// True where the exit was about a device and the job goes on.
bool Runs::Impl::on_device_exit(JobRow& job, AttemptId attempt, const api::ExitRecord& record) {
  node.shared_cpus.ended(attempt);
  if (record.outcome == api::Outcome::unkillable) {
    const auto view = node.supervisor.find(attempt);
    for (const sched::DevicePart& part :
         all_ranks(placement_from(view ? view->placement : Json())).devices)
      (void)node.devices.drain(part.device,
                               "processes of " + target_text(job) + " could not be killed", "loam");
  }
  if (record.outcome != api::Outcome::device_busy) return false;
  node.devices.found_busy({.device = record.device, .reason = record.error});
  node.devices.look_again();
  const auto run = tables.run(job.run);
  if (job.kind == "replica" || job.cancel || !run || is_attended(*run, job)) return false;
  job.state = "queued";
  tables.save(job);
  if (!resumed) return true;  // resume() queues it
  node.queue.contains(job.id) ? node.queue.requeue(job.id) : enqueue(job);
  node.devices.watch_for_waiting();
  return true;
}

AttemptId Runs::Impl::start_with_devices(
    const StartInputs& inputs, api::AttemptPlan plan,
    std::function<Result<void>(const std::string&)> prepare_folder) {
  const bool pinned = plan.pinned;
  if (!plan.device_locks.empty()) plan.device_lock_owner = lock_owner(node.context);
  // The others leave its CPUs before it comes.
  if (pinned)
    node.shared_cpus.follow(node.queue.state());
  else
    plan.cpus = node.shared_cpus.of_new_attempt();
  const sandbox::CgroupLimits limits = limits_of(plan);
  const AttemptId attempt = node.supervisor.start(inputs.job.id, std::move(plan), limits,
                                                  std::move(prepare_folder), inputs.placement);
  if (pinned) node.shared_cpus.pinned(attempt);
  return attempt;
}

void Runs::Impl::adopt_placement(const RunRow& run, const JobRow& job, const AttemptView& attempt) {
  sched::Placement placement = placement_from(attempt.placement);
  const bool pinned = !placement.ranks.empty() && !placement.ranks.front().cpus.empty();
  node.queue.adopt(claim_of(run, job),
                   {.placement = std::move(placement), .started = attempt.started_ms});
  adopt_usage(run, job, attempt);
  if (pinned) node.shared_cpus.pinned(attempt.id);
  watch_disk();
}

}  // namespace loam::node
