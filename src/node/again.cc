// What becomes of an attempt that did not succeed: it was lost, it was preempted, it failed. Whether
// another one follows, what that costs, and how long it waits.
//
//   lost       tried again, costs nothing; three in a row within one boot end the job
//   preempted  queued again, costs nothing
//   failed     costs a retry where `retries` has one left and `retry_on` names the failure
#include <algorithm>
#include <chrono>

#include "base/text.h"
#include "node/attempt_finding.h"
#include "node/runs_impl.h"

namespace loam::node {
namespace {

constexpr std::chrono::milliseconds kLostPause{1500};  // times the losses in a row
// Before the first retry, doubled before each further one: what failed for want of something (a
// server, a licence, a disk) seldom has it at once.
constexpr std::chrono::milliseconds kRetryPauseFirst{1000};
constexpr std::chrono::milliseconds kRetryPauseMax{300'000};

std::chrono::milliseconds retry_pause(std::int64_t failures) {
  const auto doublings = std::clamp<std::int64_t>(failures - 1, 0, 20);
  return std::min(kRetryPauseFirst * (std::int64_t{1} << doublings), kRetryPauseMax);
}

bool names(const spec::RetryOn& wanted, const api::ExitRecord& exit) {
  using Kind = spec::RetryOn::Kind;
  const auto is = [&](api::Outcome outcome, int number) {
    return exit.outcome == outcome && (!wanted.number || *wanted.number == number);
  };
  switch (wanted.kind) {
    case Kind::node:
      return exit.outcome == api::Outcome::lost;
    case Kind::out_of_memory:
      return exit.outcome == api::Outcome::out_of_memory;
    case Kind::time:
      return exit.outcome == api::Outcome::timed_out;
    case Kind::start:
      return exit.outcome == api::Outcome::failed_to_start;
    case Kind::output:  // it ended well and yet the step failed
      return succeeded(exit);
    case Kind::signal:
      return is(api::Outcome::signaled, exit.signal);
    case Kind::exit:
      return is(api::Outcome::exited, exit.code) && exit.code != 0;
  }
  return false;
}

bool is_tried_again(const spec::Step& step, const api::ExitRecord& exit) {
  return step.retry_on.empty() ||
         std::any_of(step.retry_on.begin(), step.retry_on.end(),
                     [&](const spec::RetryOn& wanted) { return names(wanted, exit); });
}

// A person sits at it: nobody could attach to a second attempt.
bool attended(const RunRow& run, const JobRow& job) {
  const Json& command = run.options["command"];
  return job.kind == "shell" || command["terminal"].as_bool() ||
         command["standard_input"].as_bool();
}

std::string where_it_resumes(const Settled& settled) {
  return settled.name.empty() ? "begins anew" : "resumes from " + printable(settled.name);
}

}  // namespace

bool goes_on(const spec::Step& step, const JobRow& job, const api::ExitRecord& exit) {
  return exit.outcome == api::Outcome::preempted ||
         (job.failures < step.retries && is_tried_again(step, exit));
}

// Out of the queue meanwhile. A node that starts within the pause does not wait for its end.
void Runs::Impl::enqueue_later(JobRow& job, std::chrono::milliseconds pause,
                               const std::string& why) {
  job.state = "queued";
  job.why = why;
  tables.save(job);
  node.queue.release(job.id);
  if (!resumed) return;
  pauses[job.id] = node.loop.after(pause, [this, id = job.id] {
    auto waiting = tables.job(id);
    if (!waiting || waiting->state != "queued") return;
    waiting->why.clear();
    enqueue(*waiting);
  });
}

// Nobody's fault, so it costs no retry; but three in a row within one boot have a reason in the job
// or the host.
void Runs::Impl::on_lost(JobRow& job, bool reboot) {
  const auto run = tables.run(job.run);
  if (job.lost_boot != node.boot_id) {
    job.lost_boot = node.boot_id;
    job.lost = 0;
  }
  if (!reboot) ++job.lost;
  job.preempt.clear();  // what it was to make room for has it
  const std::string why = reboot ? "the machine was restarted" : "its keeper died";
  const auto again = [&](const std::string& text, const std::string& waits) {
    events.add(job.run, "note", Json::object({{"lost", true}, {"text", text}}));
    // Whatever killed the keeper may still be at it.
    enqueue_later(job, kLostPause * job.lost, waits);
  };
  if (job.cancel) {
    end_job(job, "cancelled", "", Json::object({{"why", job.why}}));
    return consider_after(job);
  }
  if (run && attended(*run, job)) {
    end_job(job, "failed", "lost: " + why);
    return consider_after(job);
  }
  if (job.lost < kLostInARowMax)
    return again("an attempt of " + target_text(job) + " was lost (" + why + "); it is tried again",
                 "an attempt was lost; it is tried again in a moment");
  const spec::Step* step = run && job.kind == "step" ? step_of(*run, job) : nullptr;
  const bool named = step != nullptr && !step->retry_on.empty() &&
                     is_tried_again(*step, {.outcome = api::Outcome::lost});
  if (named && job.failures < step->retries) {
    ++job.failures;
    const std::string text = "lost three times in a row (" + why + "); retry " +
                             std::to_string(job.failures) + " of " + std::to_string(step->retries);
    again(target_text(job) + " was " + text, text);
    job.lost = 0;
    tables.save(job);
    return;
  }
  end_job(job, "failed", "lost three times in a row");
  consider_after(job);
}

void Runs::Impl::attempt_preempted(JobRow& job, const AttemptView& attempt,
                                   const Finding& finding) {
  const std::string why = job.preempt.empty() ? "it was asked to make room" : job.preempt;
  if (attended(finding.run, job)) {
    end_job(job, "failed", "preempted: " + why + "; nobody could attach to another attempt",
            Json::object({{"attempt", attempt.number}, {"exit", api::to_json(attempt.exit)}}));
    return consider_after(job);
  }
  ++job.preemptions;
  job.lost = 0;
  job.state = "preempted";
  job.checkpoint = finding.settled.name;
  job.why = "preempted (" + why + "); " + where_it_resumes(finding.settled);
  step_event(job, Json::object({{"state", job.state},
                                {"attempt", attempt.number},
                                {"exit", api::to_json(attempt.exit)},
                                {"why", why},
                                {"checkpoint", finding.settled.name}}));
  requeue_preempted(job);
}

void Runs::Impl::attempt_failed(JobRow& job, const AttemptView& attempt, const Finding& finding) {
  Json data = Json::object({{"attempt", attempt.number},
                            {"exit", api::to_json(attempt.exit)},
                            {"error_line", finding.line}});
  if (job.cancel || attempt.exit.outcome == api::Outcome::cancelled) {
    end_job(job, "cancelled", "", std::move(data));
    return consider_after(job);
  }
  if (attempt.exit.outcome == api::Outcome::preempted)
    return attempt_preempted(job, attempt, finding);
  std::string error = finding.error + (finding.line.empty() ? "" : ": " + finding.line);
  job.lost = 0;
  job.preempt.clear();
  const spec::Step* step = job.kind == "step" ? step_of(finding.run, job) : nullptr;
  if (step != nullptr && goes_on(*step, job, attempt.exit)) {
    ++job.failures;
    const auto pause = retry_pause(job.failures);
    const std::string retry = "retry " + std::to_string(job.failures) + " of " +
                              std::to_string(step->retries) + " in " + format_duration(pause);
    note(job.run, target_text(job) + "/" + std::to_string(attempt.number) + " failed (" + error +
                      "); " + retry +
                      (finding.checkpoint ? "; " + where_it_resumes(finding.settled) : ""));
    return enqueue_later(job, pause, retry + " (" + error + ")");
  }
  if (step != nullptr && job.failures < step->retries) {
    note(job.run, target_text(job) + ": retry_on does not name this failure; it is not tried again");
    error += " (not in retry_on)";
  }
  ++job.failures;
  end_job(job, "failed", error, std::move(data));
  consider_after(job);
}

}  // namespace loam::node
