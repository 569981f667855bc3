// What is asked about runs and jobs, and told to them: docs/node-api.md.
#include <algorithm>
#include <charconv>

#include "base/files.h"
#include "base/text.h"
#include "node/runs_impl.h"
#include "node/services.h"

namespace loam::node {
namespace {

constexpr std::int64_t kRunsListedMax = 1000;
constexpr std::int64_t kRunsListedDefault = 50;
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

Json time_or_null(std::int64_t ms) { return ms == 0 ? Json() : Json(ms); }
Json text_or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

bool settled(const std::string& state) {
  return state == "succeeded" || state == "failed" || state == "cancelled" || state == "serving";
}

}  // namespace

Json Runs::Impl::job_json(const RunRow& run, const JobRow& job) {
  std::string why = job.why;
  if (job.state == "queued")
    if (const std::string waits = node.queue.explain(job.id); !waits.empty()) why = waits;
  Json attempts{Json::Array{}};
  for (const AttemptView& attempt : node.supervisor.attempts_of(job.id)) {
    Json one = Json::object({{"number", attempt.number},
                             {"state", attempt.state},
                             {"created_ms", attempt.created_ms},
                             {"started_ms", time_or_null(attempt.started_ms)},
                             {"ended_ms", time_or_null(attempt.ended_ms)},
                             {"folder_kept", path_exists(node.supervisor.folder_of(attempt.id))}});
    if (attempt.state == "ended") one.set("exit", api::to_json(attempt.exit));
    attempts.push(std::move(one));
  }
  return Json::object({{"target", target_text(job)},
                       {"run", job.run},
                       {"name", job.name},
                       {"kind", job.kind},
                       {"state", job.state == "finishing" ? "running" : job.state},
                       {"why", text_or_null(why)},
                       {"error", text_or_null(job.error)},
                       {"cpu_milli", job.cpu_milli},
                       {"memory_bytes", job.memory_bytes},
                       {"user", run.user},
                       {"project", run.project},
                       {"created_ms", job.created_ms},
                       {"ended_ms", time_or_null(job.ended_ms)},
                       {"model_version", job.model.empty() || job.version == 0
                                             ? Json()
                                             : Json(job.model + "@" + std::to_string(job.version))},
                       {"attempts", std::move(attempts)}});
}

Json Runs::Impl::run_json(const RunRow& run, bool with_jobs) {
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
  if (with_jobs)
    for (const JobRow& job : tables.jobs_of(run.id)) jobs.push(job_json(run, job));
  json.set("jobs", std::move(jobs));
  return json;
}

void Runs::Impl::run_routes(Routes& routes) {
  routes.add("POST", "/v1/runs",
             [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
               submit(request, std::move(responder));
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
               const bool root = request.caller.uid == 0 && !node.context.identity.rootless;
               const std::string mine = root ? "1 OR uid=?" : "uid=?";
               Json list{Json::Array{}};
               for (const RunRow& run : tables.runs("(" + mine + ") ORDER BY id DESC LIMIT ?",
                                                    {std::int64_t{request.caller.uid}, limit}))
                 list.push(run_json(run, true));
               responder->reply(200, Json::object({{"runs", std::move(list)}}));
             });
  const auto find_run = [this](const Request& request,
                               const Routes::Params& params) -> std::optional<RunRow> {
    auto target = find_target(request.caller, params.at("id"));
    if (!target) return std::nullopt;
    return target->run;
  };
  const auto no_run = [](const Routes::Params& params) {
    return Error{ErrorCode::not_found, "no such run: " + printable(params.at("id"))};
  };
  routes.add("GET", "/v1/runs/:id",
             [this, find_run, no_run](const Request& request, const Routes::Params& params,
                                      ResponderPtr responder) {
               const auto run = find_run(request, params);
               if (!run) return responder->reply_error(no_run(params));
               responder->reply(200, run_json(*run, true));
             });
  routes.add("GET", "/v1/runs/:id/events",
             [this, find_run, no_run](const Request& request, const Routes::Params& params,
                                      ResponderPtr responder) {
               const auto run = find_run(request, params);
               if (!run) return responder->reply_error(no_run(params));
               events.follow(run->id, std::move(responder), settled(run->state));
             });
  routes.add(
      "GET", "/v1/jobs",
      [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
        Json list{Json::Array{}};
        const auto add = [&](const std::vector<JobRow>& jobs) {
          for (const JobRow& job : jobs)
            if (const auto run = tables.run(job.run)) list.push(job_json(*run, job));
        };
        const std::string open =
            "state NOT IN ('succeeded','failed','cancelled','unchanged','skipped')";
        add(tables.jobs(open + " ORDER BY id"));
        if (query_of(request, "all") == "1") {
          const bool root = request.caller.uid == 0 && !node.context.identity.rootless;
          add(tables.jobs(
              "NOT (" + open +
                  ") AND (? OR run IN (SELECT id FROM runs WHERE uid=?)) ORDER BY id DESC LIMIT ?",
              {std::int64_t{root ? 1 : 0}, std::int64_t{request.caller.uid}, kEndedJobsListed}));
        }
        responder->reply(200, Json::object({{"jobs", std::move(list)}}));
      });
  routes.add("POST", "/v1/cancel",
             [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
               const std::string text = request.body["target"].as_string();
               auto target = find_target(request.caller, text);
               if (!target) return responder->reply_error(target.error());
               std::vector<std::string> cancelled;
               if (text.find('/') == std::string::npos) {
                 cancelled =
                     cancel_run(target->run, "cancelled by " + user_name(request.caller.uid));
               } else if (target->job && !target->job->ended()) {
                 cancelled.push_back(target_text(*target->job));
                 cancel_job(*target->job, "cancelled by " + user_name(request.caller.uid));
                 consider(target->run.id);
               }
               responder->reply(200, Json::object({{"cancelled", Json::array_of(cancelled)}}));
             });
  routes.add("POST", "/v1/down",
             [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
               const std::string& folder = request.body["project"].as_string();
               const std::string& name = request.body["name"].as_string();
               if (folder.empty() && name.empty())
                 return responder->reply_error(
                     {ErrorCode::invalid, "expected a project's folder or its name"});
               const auto stopped = services->down(request.caller, folder, name);
               std::vector<std::string> targets;
               for (const JobRow& job : stopped) targets.push_back(target_text(job));
               when_ended(stopped, [responder, targets] {
                 responder->reply(200, Json::object({{"stopped", Json::array_of(targets)}}));
               });
             });
}

}  // namespace loam::node
