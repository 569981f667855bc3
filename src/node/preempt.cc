// Making room: a job's attempt is told to save and end; the job goes back into the queue (again.cc).
//
//   preempt_job ─ row: why ─ commit ─▶ shim: checkpoint's signal, grace … ─▶ exit `preempted` ─▶
//   attempt_preempted ─ queued ─▶ the next attempt resumes (resume.cc)
//
// What is asked for is in the row before anybody acts on it: a node that starts again asks again.
#include "base/crash_point.h"
#include "base/log.h"
#include "base/text.h"
#include "node/runs_impl.h"

namespace loam::node {
namespace {

constexpr std::size_t kWhyBytesMax = 200;

}  // namespace

Result<void> Runs::Impl::preempt_job(JobRow job, const Preemption& preemption) {
  const std::string target = target_text(job);
  if (job.kind == "replica" || job.kind == "gateway")
    return fail(ErrorCode::invalid,
                target + " belongs to a service, which is not preempted; `loam down` ends it");
  if (job.ended()) return fail(ErrorCode::busy, target + " has ended: " + job.state);
  const auto attempt = last_attempt(job.id);
  if (job.state == "finishing" || (job.state == "running" && attempt && attempt->state == "ended"))
    return fail(ErrorCode::busy, target + " has just ended; what it left is taken in");
  if (job.state != "running" || !attempt)
    return fail(ErrorCode::busy, target + " does not run; it waits (" + job.state + ")");
  if (job.cancel) return fail(ErrorCode::busy, target + " is being cancelled");
  if (!job.preempt.empty()) return {};
  job.preempt = preemption.why;
  job.keeps_place = preemption.keeps_place;
  job.why = "makes room: " + preemption.why;
  tables.save(job);
  note(job.run, target + "/" + std::to_string(attempt->number) +
                    " is to make room: " + preemption.why);
  node.db.after_commit([this, id = attempt->id] {
    LOAM_CRASH_POINT("node.preemption_committed");
    node.supervisor.stop(id, api::Outcome::preempted);
  });
  return {};
}

// The scheduler's word. Between the grant and the attempt there is nothing to save: start_planned
// sees what was asked and gives the grant back.
void Runs::Impl::on_preempt(JobId victim, JobId beneficiary) {
  auto job = tables.job(victim);
  if (!job || job->ended()) return;
  const auto other = tables.job(beneficiary);
  const Preemption preemption{.why = "for " + (other ? target_text(*other) : "another job"),
                              .keeps_place = true};
  if (job->in_queue() && starting.contains(victim)) {
    job->preempt = preemption.why;
    job->keeps_place = true;
    return tables.save(*job);
  }
  // What just ends or is being cancelled makes room anyway.
  if (auto asked = preempt_job(*job, preemption); !asked) log_info(asked.error().text);
}

void Runs::Impl::requeue_preempted(JobRow& job) {
  job.preempt.clear();
  job.state = "preempted";
  tables.save(job);
  if (!job.keeps_place || !node.queue.contains(job.id)) return enqueue(job, "preempted");
  node.queue.requeue(job.id);
  node.shared_cpus.follow(node.queue.state());
  tell_why_it_waits(job.id);
}

void Runs::Impl::preempt_routes(Routes& routes) {
  routes.add(
      "POST", "/v1/preempt",
      [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
        const std::string text = request.body["target"].as_string();
        const std::string& reason = request.body["why"].as_string();
        if (reason.size() > kWhyBytesMax)
          return responder->reply_error({ErrorCode::too_large, "why: over 200 bytes"});
        const auto target = find_target(request.caller, text, For::acting);
        if (!target) return responder->reply_error(target.error());
        const std::string why =
            "asked by " + user_name(request.caller.uid) +
            (reason.empty() ? "" : ": " + printable(reason));
        std::vector<JobRow> jobs;
        if (text.find('/') != std::string::npos && target->job) {
          jobs = {*target->job};
          if (target->job->tasks > 0) {
            jobs = tasks_of(*target->job);
            std::erase_if(jobs, [](const JobRow& task) { return !task.runs(); });
            // What holds the place is the lane.
            if (!jobs.empty() && shares_sandbox(jobs[0])) jobs = running_lanes(target->job->id);
          }
        }
        if (text.find('/') == std::string::npos)
          for (JobRow& job : tables.jobs_of(target->run.id))
            if ((job.kind == "step" || job.kind == "command" || job.kind == "lane") && job.runs() &&
                job.tasks == 0 && !shares_sandbox(job))
              jobs.push_back(std::move(job));
        std::vector<std::string> preempted;
        for (const JobRow& job : jobs) {
          auto asked = preempt_job(job, {.why = why, .keeps_place = false});
          if (!asked && jobs.size() == 1) return responder->reply_error(asked.error());
          if (asked) preempted.push_back(target_text(job));
        }
        if (preempted.empty())
          return responder->reply_error(
              {ErrorCode::busy, printable(text) + " has no step that runs"});
        responder->reply(200, Json::object({{"preempted", Json::array_of(preempted)}}));
      });
}

}  // namespace loam::node
