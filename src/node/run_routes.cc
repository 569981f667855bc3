// What is asked about runs and jobs, and told to them: docs/node-api.md.
#include <algorithm>
#include <charconv>

#include "base/files.h"
#include "base/or_null.h"
#include "base/text.h"
#include "node/runs_impl.h"
#include "node/services.h"

namespace loam::node {
namespace {

constexpr std::int64_t kRunsListedMax = 1000;
constexpr std::int64_t kRunsListedDefault = 50;
constexpr std::int64_t kJobsListedMax = 10'000;
constexpr std::int64_t kJobsListedDefault = 1000;
constexpr std::int64_t kEndedJobsListed = 200;

std::int64_t number_or(const std::string& text, std::int64_t fallback) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number >= 0 ? number
                                                                                 : fallback;
}

std::string query_of(const Request& request, const std::string& key) {
  const auto found = request.query.find(key);
  return found == request.query.end() ? "" : found->second;
}

bool settled(const std::string& state) {
  return state == "succeeded" || state == "failed" || state == "cancelled" || state == "serving";
}

// The queue, a page of it: who has much in it holds nobody up who looks.
void list_jobs(Runs::Impl& runs, const Request& request, const ResponderPtr& responder) {
  Json list{Json::Array{}};
  const sched::Outlook outlook = runs.node.queue.look_ahead();
  const auto add = [&](const std::vector<JobRow>& jobs) {
    for (const JobRow& job : jobs)
      if (const auto run = runs.tables.run(job.run)) list.push(runs.job_json(*run, job, &outlook));
  };
  const std::int64_t limit =
      std::min(number_or(query_of(request, "limit"), kJobsListedDefault), kJobsListedMax);
  const std::int64_t after = number_or(query_of(request, "after"), 0);
  // A parked replica waits for nothing that the machine has.
  const std::string open = kOpenJob + std::string(" AND state<>'parked' AND sweep=0 AND id>?");
  const auto page = runs.tables.jobs(open + " ORDER BY id LIMIT ?", {after, limit});
  add(page);
  const JobId last = page.empty() ? after : page.back().id;
  const std::int64_t more = runs.tables.count(open, {last});
  if (query_of(request, "all") == "1") {
    const bool root = is_root(runs.node.context.identity, request.caller);
    add(runs.tables.jobs(
        "NOT (" + std::string(kOpenJob) +
            ") AND sweep=0 AND (? OR run IN (SELECT id FROM runs WHERE uid=?)) ORDER BY id DESC "
            "LIMIT ?",
        {std::int64_t{root ? 1 : 0}, std::int64_t{request.caller.uid}, kEndedJobsListed}));
  }
  responder->reply(200, Json::object({{"jobs", std::move(list)},
                                      {"more", more},
                                      {"next", more > 0 ? Json(last) : Json()}}));
}

void cancel(Runs::Impl& runs, const Request& request, const ResponderPtr& responder) {
  const std::string text = request.body["target"].as_string();
  auto target = runs.find_target(request.caller, text, Runs::Impl::For::acting);
  if (!target) return responder->reply_error(target.error());
  std::vector<std::string> cancelled;
  const bool whole_run = text.find('/') == std::string::npos;
  const std::string& state = whole_run || !target->job ? target->run.state : target->job->state;
  if (whole_run ? target->run.ended() : target->job && target->job->ended())
    return responder->reply_error(
        {ErrorCode::busy, (whole_run ? "run " + std::to_string(target->run.id) : runs.target_text(*target->job)) +
                              " has already ended (" + state + ")"});
  if (whole_run) {
    cancelled = runs.cancel_run(target->run, "cancelled by " + user_name(request.caller.uid));
  } else if (target->job) {
    if (runs.cancel_job(*target->job, "cancelled by " + user_name(request.caller.uid)))
      cancelled.push_back(runs.target_text(*target->job));
    runs.consider(target->run.id);
  }
  responder->reply(200, Json::object({{"cancelled", Json::array_of(cancelled)}}));
}

void take_down(Runs::Impl& runs, const Request& request, const ResponderPtr& responder) {
  const std::string& folder = request.body["project"].as_string();
  const std::string& name = request.body["name"].as_string();
  if (folder.empty() && name.empty())
    return responder->reply_error({ErrorCode::invalid, "expected a project's folder or its name"});
  const auto stopped = runs.services->down(request.caller, folder, name);
  std::vector<std::string> targets;
  for (const JobRow& job : stopped) targets.push_back(runs.target_text(job));
  runs.when_ended(stopped, [responder, targets] {
    responder->reply(200, Json::object({{"stopped", Json::array_of(targets)}}));
  });
}

}  // namespace

Json Runs::Impl::job_json(const RunRow& run, const JobRow& job, const sched::Outlook* outlook) {
  std::string why = job.why;
  if (job.in_queue()) {
    const bool shares = shares_sandbox(job);
    const JobId claim = shares ? waiting_lane(job.sweep).value_or(job.id) : job.id;
    std::string waits = why_waits(claim, outlook != nullptr ? *outlook : node.queue.look_ahead());
    if (waits.empty() && shares && why.empty()) waits = kWaitsInLine;
    if (!waits.empty()) why = job.state == "preempted" ? why + "; " + waits : waits;
  }
  Json attempts{Json::Array{}};
  for (const AttemptView& attempt : node.supervisor.attempts_of(job.id)) {
    Json one = Json::object({{"number", attempt.number},
                             {"state", attempt.state},
                             {"created_ms", attempt.created_ms},
                             {"started_ms", time_or_null(attempt.started_ms)},
                             {"ended_ms", time_or_null(attempt.ended_ms)},
                             {"folder_kept", path_exists(node.supervisor.folder_of(attempt.id))}});
    for (const char* key : {"devices", "cpus"})
      if (attempt.placement[key].size() > 0) one.set(key, attempt.placement[key]);
    if (attempt.state == "ended") one.set("exit", api::to_json(attempt.exit));
    attempts.push(std::move(one));
  }
  Json json =
      Json::object({{"target", target_text(job)},
                    {"run", job.run},
                    {"name", job.name},
                    {"kind", job.kind},
                    {"state", job.shown_state()},
                    {"held_by", text_or_null(job.held)},
                    {"why", text_or_null(why)},
                    {"error", text_or_null(job.error)},
                    {"preemptions", job.preemptions},
                    {"checkpoint", text_or_null(job.checkpoint)},
                    {"cpu_milli", job.cpu_milli},
                    {"memory_bytes", job.memory_bytes},
                    {"request", job.request},
                    {"user", run.user},
                    {"account", run.account},
                    {"priority", claim_of(run, job).priority},
                    {"project", run.project},
                    {"created_ms", job.created_ms},
                    {"ended_ms", time_or_null(job.ended_ms)},
                    {"model_version", job.model.empty() || job.version == 0
                                          ? Json()
                                          : Json(job.model + "@" + std::to_string(job.version))},
                    {"attempts", std::move(attempts)}});
  if (Json counts = task_counts(job); !counts.is_null()) json.set("task_counts", std::move(counts));
  return json;
}

Json Runs::Impl::run_json(const RunRow& run, Tasks tasks) {
  Json json = Json::object({{"id", run.id},
                            {"project", run.project},
                            {"folder", printable(run.folder)},
                            {"user", run.user},
                            {"verb", run.verb},
                            {"state", run.state},
                            {"error", text_or_null(run.error)},
                            {"created_ms", run.created_ms},
                            {"ended_ms", time_or_null(run.ended_ms)},
                            {"snapshot", run.snapshot},
                            {"endpoint", text_or_null(run.endpoint)}});
  Json jobs{Json::Array{}};
  for (const JobRow& job : tables.parts_of(run.id)) {
    Json one = job_json(run, job);
    if (tasks == Tasks::listed && one.has("task_counts")) one.set("tasks", tasks_json(run, job));
    jobs.push(std::move(one));
  }
  json.set("jobs", std::move(jobs));
  return json;
}

void Runs::Impl::run_routes(Routes& routes) {
  routes.add("POST", "/v1/runs",
             [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
               submit(request, std::move(responder));
             });
  routes.add("POST", "/v1/plan",
             [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
               submit(request, std::move(responder), Intent::forecast);
             });
  routes.add("POST", "/v1/shell",
             [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
               submit_shell(request, std::move(responder));
             });
  routes.add("POST", "/v1/lock",
             [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
               lock_only(request, std::move(responder));
             });
  routes.add("GET", "/v1/runs",
             [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
               const std::int64_t limit = std::min(
                   number_or(query_of(request, "limit"), kRunsListedDefault), kRunsListedMax);
               const bool root = is_root(node.context.identity, request.caller);
               const std::string mine = root ? "1 OR uid=?" : "uid=?";
               Json list{Json::Array{}};
               for (const RunRow& run : tables.runs("(" + mine + ") ORDER BY id DESC LIMIT ?",
                                                    {std::int64_t{request.caller.uid}, limit}))
                 list.push(run_json(run, Tasks::counted));
               responder->reply(200, Json::object({{"runs", std::move(list)}}));
             });
  const auto find_run = [this](const Request& request,
                               const Routes::Params& params) -> Result<RunRow> {
    auto target = find_target(request.caller, params.at("id"));
    if (target) return std::move(target->run);
    if (target.error().code == ErrorCode::denied) return tl::unexpected(std::move(target.error()));
    return fail(ErrorCode::not_found, "no such run: " + printable(params.at("id")));
  };
  routes.add("GET", "/v1/runs/:id",
             [this, find_run](const Request& request, const Routes::Params& params,
                              ResponderPtr responder) {
               const auto run = find_run(request, params);
               if (!run) return responder->reply_error(run.error());
               responder->reply(200, run_json(*run, Tasks::listed));
             });
  routes.add("GET", "/v1/runs/:id/events",
             [this, find_run](const Request& request, const Routes::Params& params,
                              ResponderPtr responder) {
               const auto run = find_run(request, params);
               if (!run) return responder->reply_error(run.error());
               events.follow(run->id, std::move(responder), settled(run->state));
             });
  routes.add("GET", "/v1/jobs",
             [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
               list_jobs(*this, request, responder);
             });
  routes.add("POST", "/v1/cancel",
             [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
               cancel(*this, request, responder);
             });
  routes.add("POST", "/v1/down",
             [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
               take_down(*this, request, responder);
             });
}

}  // namespace loam::node
