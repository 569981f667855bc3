// What a job is to the scheduler, and what the scheduler says of it.
#include "base/time_of_day.h"
#include "node/job_request.h"
#include "node/runs_impl.h"

namespace loam::node {
namespace {

constexpr std::chrono::nanoseconds kPlainGrace = std::chrono::seconds(10);  // api::AttemptPlan's

}  // namespace

sched::Claim Runs::Impl::claim_of(const RunRow& run, const JobRow& job) {
  sched::Claim claim{.id = static_cast<sched::ClaimId>(job.id),
                     .user = run.user,
                     .account = run.account,
                     .ranks = ranks_of(job.request),
                     .rank = {.cpu_milli = static_cast<std::uint64_t>(job.cpu_milli),
                              .memory_bytes = static_cast<std::uint64_t>(job.memory_bytes)}};
  claim.held = !job.held.empty();
  add_request(job.request, node.devices.huge_pages(), claim.rank);
  if (job.kind == "replica") claim.kind = sched::ClaimKind::service;
  if (job.kind == "shell") claim.kind = sched::ClaimKind::interactive;
  if (job.kind == "command") {
    const Json& command = run.options["command"];
    claim.time_limit_ms = command["time_ms"].as_int();
    if (command["terminal"].as_bool()) claim.kind = sched::ClaimKind::interactive;
  }
  const bool of_step = job.kind == "step" || job.kind == "lane";
  if (const spec::Step* step = of_step ? step_of(run, job) : nullptr) {
    // Of each task: how long a lane has work nobody knows.
    if (job.kind == "step")
      claim.time_limit_ms =
          std::chrono::ceil<std::chrono::milliseconds>(step->resources.time).count();
    claim.preemptible = step->preemptible;
    claim.priority = step->priority;
    const auto grace = step->checkpoint ? step->checkpoint->grace : kPlainGrace;
    claim.grace_ms = std::chrono::ceil<std::chrono::milliseconds>(grace).count();
  }
  if (const spec::Service* service = job.kind == "replica" ? service_of(run, job) : nullptr)
    claim.priority = service->priority;
  if (const Json& asked = run.options["priority"]; !asked.is_null())
    claim.priority = static_cast<std::int32_t>(asked.as_int());
  return claim;
}

// A claim given back first, so that a retry stands behind those who already wait.
void Runs::Impl::enqueue(JobRow& job, const std::string& state) {
  const auto run = tables.run(job.run);
  if (!run) return;
  job.state = state;
  tables.save(job);
  pauses.erase(job.id);
  if (shares_sandbox(job)) return await_lane(job);
  node.queue.release(job.id);
  const sched::Claim claim = claim_of(*run, job);
  if (!claim.rank.devices.empty()) node.devices.look_again();
  node.queue.submit(claim);
  node.devices.watch_for_waiting();
  node.shared_cpus.follow(node.queue.state());
  if (job.sweep == 0) tell_why_it_waits(job.id);  // of a thousand tasks a thousand looks ahead
}

// Where it does.
void Runs::Impl::tell_why_it_waits(JobId id) {
  const auto job = tables.job(id);
  if (!job || !job->in_queue()) return;
  if (const std::string why = why_waits(id, node.queue.look_ahead(kAheadAtOnce)); !why.empty())
    step_event(*job, Json::object({{"why", why}}));
}

std::string Runs::Impl::why_waits(JobId job, const sched::Outlook& outlook) {
  return why_text(job, node.queue.explain(job, outlook), outlook.now);
}

std::string Runs::Impl::why_text(JobId id, const sched::Explanation& why, sched::Time now) {
  if (why.held)
    if (const auto job = tables.job(id)) return held_text(*job);
  const sched::Wording wording{[this](sched::ClaimId claim) {
                                 const auto other = tables.job(static_cast<JobId>(claim));
                                 return other ? target_text(*other) : "a job that has ended";
                               },
                               [&](sched::Time time) { return format_time_of_day(time, now); }};
  return sched::explanation_text(why, wording);
}

}  // namespace loam::node
