// POST /v1/plan: what a submission would do now, without doing it. The file, the snapshot, the data
// and the lock are looked at as for a run; then, instead of rows,
//
//   each step ─ key ─ staleness ─▶ unchanged | may run (its upstream runs) | runs
//   what would be queued at once ─ a copy of the scheduler's state ─▶ now | waits, why, until when
//
// What was read is left in the store for the next collection.
#include <algorithm>

#include "base/or_null.h"
#include "base/text.h"
#include "base/time_of_day.h"
#include "node/runs_impl.h"
#include "node/services.h"
#include "node/staleness.h"
#include "node/submission.h"

namespace loam::node {
namespace {

// Ids that no job has; sched/ and the wording below know them.
constexpr JobId kFirstForecast = JobId{1} << 60;

std::string version_text(const std::string& model, std::int64_t version) {
  return model.empty() ? "" : model + "@" + std::to_string(version);
}

// One forecast's course: steps in an order in which they can run, then services.
class Forecast {
 public:
  Forecast(Runs::Impl& runs, const Submission& submission, const Inspected& inspected)
      : runs_(runs),
        run_(submission.run),
        project_(*submission.project),
        held_(submission.held),
        lock_(inspected.lock),
        state_(runs.node.queue.state()),
        now_(runs.node.queue.now_ms()) {
    run_.data = inspected.data;
  }

  Json made() {
    std::vector<JobRow> jobs = jobs_for(run_, project_);
    Json steps = Json::array(), services = Json::array();
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      jobs[i].id = kFirstForecast + static_cast<JobId>(i);
      names_[jobs[i].id] = jobs[i].name;
      if (jobs[i].kind == "step") jobs[i].held = held_;
    }
    for (JobRow& job : jobs)
      if (job.kind == "step") steps.push(step_json(job));
    std::set<std::string> told;
    for (JobRow& job : jobs)
      if (job.kind == "replica" && told.insert(job.service).second)
        services.push(service_json(job));
    return Json::object({{"project", run_.project},
                         {"account", run_.account},
                         {"now_ms", now_},
                         {"environments", std::move(environments_)},
                         {"steps", std::move(steps)},
                         {"services", std::move(services)}});
  }

 private:
  struct Planned {
    bool runs = false;  // or may run
    std::map<std::string, std::string> trees;  // of its last success: by step, or by task
  };

  const spec::Step& step_named(const std::string& name) const {
    return *std::find_if(project_.steps.begin(), project_.steps.end(),
                         [&](const spec::Step& step) { return step.name == name; });
  }

  // Its digest, "" where it is not known before it is resolved.
  std::string env_digest(const spec::Env& env, const std::string& name) {
    std::optional<Json> section;
    if (const auto* locked = env::find_section(lock_, env);
        locked != nullptr && env::answers(*locked, env))
      section = *locked;
    if (!section && plain_host(env))
      if (auto resolved = env::resolve({}, env)) section = std::move(*resolved);
    const auto digest = section ? env::digest_of(*section) : std::nullopt;
    const auto tree = Digest::parse(section ? (*section)["tree"].as_string() : "");
    const char* state = !digest                                     ? "to be resolved"
                        : tree && !runs_.node.store.has_tree(*tree) ? "to be built"
                                                                    : "ready";
    const bool known = std::any_of(envs_.begin(), envs_.end(),
                                   [&](const spec::Env& one) { return one == env; });
    if (!known) {
      envs_.push_back(env);
      environments_.push(Json::object({{"env", env == project_.env ? project_.name : name},
                                       {"base", env.base},
                                       {"state", state}}));
    }
    return digest.value_or("");
  }

  Json step_json(JobRow& job) {
    const spec::Step& step = step_named(job.name);
    StepInputs inputs;
    std::vector<std::string> open;  // upstream whose output is not known yet
    for (const std::string& name : step.after) {
      const Planned& upstream = planned_.at(name);
      if (upstream.runs) open.push_back(name);
      inputs.upstream.insert(upstream.trees.begin(), upstream.trees.end());
    }
    inputs.env = env_digest(step.env, step.name);
    for (const spec::DataSource& source : project_.data)
      inputs.data[source.name] = run_.data[source.name]["digest"].as_string();
    inputs.snapshot = runs_.code.digest({run_.snapshot, run_.file}, step.code);
    job.key = step_key(project_, step, inputs);
    Runs::Impl::Verdict verdict = runs_.judge_step(run_, step, job.key);
    if (inputs.env.empty())
      std::replace(verdict.changed.begin(), verdict.changed.end(), std::string("env"),
                   std::string("env, which is to be resolved"));
    const bool may = verdict.stands && !open.empty();
    Planned& planned = planned_[step.name];
    planned.runs = !verdict.stands || may;
    if (verdict.last) planned.trees = runs_.output_trees(*verdict.last);
    Json json = Json::object(
        {{"step", step.name},
         {"action", may ? "may run" : verdict.stands ? "unchanged" : "runs"},
         {"reason", !verdict.last             ? "new"
                    : !verdict.changed.empty() ? "changed"
                    : may                      ? "upstream"
                    : verdict.stands           ? "unchanged"
                                               : "forced"},
         {"changed", Json::array_of(verdict.changed)},
         {"after", Json::array_of(open)},
         {"since_run", verdict.last ? Json(verdict.last->run) : Json()},
         {"model_version",
          text_or_null(verdict.last ? version_text(verdict.last->model, verdict.last->version)
                                    : "")}});
    const Json start = planned.runs && open.empty() ? start_json(job) : Json::object({{"now", false}});
    json.set("start", planned.runs ? start : Json());
    return json;
  }

  // Queued after all that is queued, and after this run's steps before it.
  Json start_json(const JobRow& job) {
    if (!run_.options["force"].as_bool())
      if (const auto same = runs_.tables.same_step_under_way(run_, job))
        return Json::object({{"now", false},
                             {"why", "waits for " + Runs::Impl::target_text(*same) +
                                         ", the same step with the same inputs"}});
    sched::Claim claim = runs_.claim_of(run_, job);
    claim.tasks = static_cast<std::uint32_t>(spec::task_params(step_named(job.name).sweep).size());
    sched::Actions actions;
    sched::on_submitted(state_, claim, now_, actions);
    bool granted = false;
    std::vector<std::string> preempts;
    for (const sched::Action& action : actions) {
      granted = granted || (action.kind == sched::Action::Kind::grant && action.claim == claim.id);
      if (action.kind == sched::Action::Kind::preempt && action.beneficiary == claim.id)
        preempts.push_back(named(action.claim));
    }
    if (granted) return Json::object({{"now", true}});
    const sched::Outlook outlook = sched::look_ahead(state_, now_, Queue::kLookAhead);
    const sched::Explanation why = sched::explain(state_, claim.id, outlook);
    const sched::Wording wording{
        [this](sched::ClaimId id) { return named(id); },
        [this](sched::Time time) { return format_time_of_day(time, now_); }};
    return Json::object(
        {{"now", false},
         {"why", sched::explanation_text(why, wording)},
         {"expected_start_ms", why.expected_start ? Json(*why.expected_start) : Json()},
         {"unknown_why", text_or_null(why.unknown_why)},
         {"preempts", Json::array_of(preempts)}});
  }

  std::string named(sched::ClaimId id) const {
    const auto ours = names_.find(static_cast<JobId>(id));
    if (ours != names_.end()) return ours->second;
    const auto job = runs_.tables.job(static_cast<JobId>(id));
    return job ? Runs::Impl::target_text(*job) : "a job that has ended";
  }

  Json service_json(JobRow& job) {
    const spec::Service& service =
        *std::find_if(project_.services.begin(), project_.services.end(),
                      [&](const spec::Service& one) { return one.name == job.service; });
    job.env = env_digest(service.env, service.name);
    std::string maker;  // a step that may make its next version
    for (const spec::Step& step : project_.steps)
      if (!service.version && step.output && step.output->model == service.model &&
          planned_[step.name].runs)
        maker = step.name;
    const std::optional<std::int64_t> wanted =
        service.version ? std::optional<std::int64_t>(*service.version) : std::nullopt;
    const auto version = runs_.models.find(run_.uid, {service.model, wanted});
    const bool same = version && maker.empty() && !run_.options["force"].as_bool() &&
                      runs_.services->serves_alike(run_, project_, job, *version,
                                                   runs_.code.digest({run_.snapshot, run_.file}, {}));
    return Json::object(
        {{"service", service.name},
         {"model", service.model},
         {"model_version",
          text_or_null(version ? version_text(version->name, version->version) : "")},
         {"replicas", service.replicas.min},
         {"replicas_max", service.replicas.max},
         {"after", maker.empty() ? Json() : Json(maker)},
         {"action", same                        ? "unchanged"
                    : !version && maker.empty() ? "fails"
                                                : "starts"}});
  }

  Runs::Impl& runs_;
  RunRow run_;
  const spec::Project& project_;
  const std::string& held_;
  const env::LockFile& lock_;
  sched::State state_;  // a copy, in which this run is already submitted
  sched::Time now_;
  std::map<JobId, std::string> names_;
  std::map<std::string, Planned> planned_;
  std::vector<spec::Env> envs_;
  Json environments_ = Json::array();
};

}  // namespace

Json Runs::Impl::forecast_json(const Submission& submission, const Inspected& inspected) {
  // claim_of asks for the project of the run, which has no number yet.
  projects[submission.run.id] = std::make_shared<const spec::Project>(*submission.project);
  Json json = Forecast(*this, submission, inspected).made();
  projects.erase(submission.run.id);
  return json;
}

void Runs::Impl::forecast(const std::shared_ptr<Submission>& submission) {
  if (!submission->project)
    return submission->responder->reply_error(
        {ErrorCode::invalid, "text: a plan is of a loam.yaml; there is none"});
  auto seen = std::make_shared<Result<Inspected>>(Inspected{});
  const auto project = std::make_shared<const spec::Project>(*submission->project);
  node.loop.offload_for(
      submission->run.reader_uid,
      [this, submission, project, seen] {
        code.look_at({submission->run.snapshot, submission->run.file}, *project);
        *seen = inspect(node.helpers, node.store, submission->run, project);
      },
      [this, submission, seen] {
        *seen ? submission->responder->reply(200, forecast_json(*submission, **seen))
              : submission->responder->reply_error(seen->error());
        release_pin(std::move(submission->pin));
      });
}

}  // namespace loam::node
