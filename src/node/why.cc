// GET /v1/why/TARGET: what a job waits for, who has it, and from when on it can be expected to run.
//
// Of a job in the queue the scheduler says it (sched/explain.h); of one before it, the run.
#include <algorithm>
#include <map>
#include <utility>

#include "base/text.h"
#include "node/runs_impl.h"

namespace loam::node {
namespace {

Json time_or_null(const std::optional<sched::Time>& time) { return time ? Json(*time) : Json(); }

Json shortage_json(const sched::Shortage& one) {
  return Json::object({{"what", one.what},
                       {"model", one.model},
                       {"needed", one.needed},
                       {"free", one.free},
                       {"total", one.total},
                       {"out_of_service", Json::array_of(one.out_of_service)}});
}

// What stands before a job that is not in the queue yet.
std::string why_not_queued(RunTables& tables, Runs::Impl& runs, const RunRow& run,
                           const JobRow& job) {
  if (!job.why.empty()) return job.why;
  if (run.state == "preparing") return "its environment is being made ready";
  const spec::Step* step = job.kind == "step" ? runs.step_of(run, job) : nullptr;
  if (step == nullptr) return job.kind == "replica" ? "waits for the run's steps" : "";
  std::vector<std::string> upstream;
  for (const JobRow& other : tables.parts_of(run.id))
    if (other.kind == "step" && !other.ended() &&
        std::find(step->after.begin(), step->after.end(), other.name) != step->after.end())
      upstream.push_back(Runs::Impl::target_text(other));
  return upstream.empty() ? "" : "waits for " + join(upstream, ", ");
}

// Of a sweep's waiting tasks the first in each state stays, for it speaks for all: how many others it
// speaks for.
std::map<JobId, std::int64_t> fold_tasks(std::vector<JobRow>& jobs) {
  std::map<std::pair<JobId, std::string>, JobId> first;
  std::map<JobId, std::int64_t> more;
  std::erase_if(jobs, [&](const JobRow& job) {
    if (job.sweep == 0) return false;
    const auto [found, is_first] = first.try_emplace({job.sweep, job.shown_state()}, job.id);
    if (!is_first) ++more[found->second];
    return !is_first;
  });
  return more;
}

}  // namespace

Json Runs::Impl::waiting_json(const RunRow& run, const JobRow& job,
                              const sched::Outlook& outlook) {
  const bool shares = job.in_queue() && shares_sandbox(job);
  const JobId claim = shares ? waiting_lane(job.sweep).value_or(job.id) : job.id;
  const sched::Explanation why = node.queue.explain(claim, outlook);
  const bool in_queue = job.in_queue() && node.queue.contains(claim);
  const auto named = [&](sched::ClaimId id) {
    const Json known = id == 0 ? Json() : who(static_cast<JobId>(id));
    return known.is_null() ? Json::object({{"target", nullptr}, {"user", nullptr}}) : known;
  };
  Json short_of = Json::array(), holders = Json::array();
  for (const sched::Shortage& one : why.short_of) short_of.push(shortage_json(one));
  for (const sched::Holder& one : why.holders) {
    Json holder = named(one.claim);
    holder.set("ends_ms", time_or_null(one.ends));
    holder.set("preempted", one.preempted);
    holders.push(std::move(holder));
  }
  std::string text = in_queue ? why_text(claim, why, outlook.now) : "";
  if (text.empty() && shares && job.why.empty()) text = kWaitsInLine;
  if (!job.held.empty() && job.waits()) text = held_text(job);
  if (text.empty() && job.waits()) text = why_not_queued(tables, *this, run, job);
  const auto or_null = [](const std::string& word) { return word.empty() ? Json() : Json(word); };
  return Json::object({{"target", target_text(job)},
                       {"user", run.user},
                       {"account", run.account},
                       {"priority", claim_of(run, job).priority},
                       {"state", job.shown_state()},
                       {"waits", job.waits()},
                       {"why", or_null(text)},
                       {"held_by", or_null(job.held)},
                       {"quota", or_null(why.quota)},
                       {"never", or_null(why.never)},
                       {"short_of", std::move(short_of)},
                       {"holders", std::move(holders)},
                       {"ahead", why.ahead},
                       {"ahead_at_least", why.ahead_at_least},
                       {"first_ahead", why.first_ahead == 0 ? Json() : named(why.first_ahead)},
                       {"expected_start_ms", time_or_null(why.expected_start)},
                       {"unknown_why", or_null(why.unknown_why)}});
}

void Runs::Impl::why_routes(Routes& routes) {
  routes.add("GET", "/v1/why/*target",
             [this](const Request& request, const Routes::Params& params, ResponderPtr responder) {
               const std::string& text = params.at("target");
               const auto target = find_target(request.caller, text, For::acting);
               if (!target) return responder->reply_error(target.error());
               std::vector<JobRow> jobs;
               if (text.find('/') == std::string::npos)
                 for (JobRow& job : tables.jobs_of(target->run.id))
                   if (job.waits()) jobs.push_back(std::move(job));
               if (text.find('/') != std::string::npos && target->job && target->job->tasks > 0)
                 for (JobRow& task : tasks_of(*target->job))
                   if (task.waits()) jobs.push_back(std::move(task));
               if (jobs.empty() && target->job) jobs.push_back(*target->job);
               const auto alike = fold_tasks(jobs);
               const sched::Outlook outlook = node.queue.look_ahead();
               Json list = Json::array();
               for (const JobRow& job : jobs) {
                 Json one = waiting_json(target->run, job, outlook);
                 if (const auto more = alike.find(job.id); more != alike.end())
                   one.set("more_tasks", more->second);
                 list.push(std::move(one));
               }
               responder->reply(200, Json::object({{"now_ms", outlook.now}, {"jobs", std::move(list)}}));
             });
}

}  // namespace loam::node
