#include "node/services.h"

#include <unistd.h>

#include <algorithm>

#include "api/endpoint.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/text.h"
#include "node/staleness.h"
#include "trace/records.h"

namespace loam::node {
namespace {

constexpr std::int64_t kPauseFirstMs = 100;
constexpr std::int64_t kPauseLastMs = 30'000;
constexpr std::int64_t kLivedMs = 60'000;  // after this the pauses begin anew
constexpr int kReplicaFoldersKept = 10;    // of a replica that dies again and again

// What a replica is made of: where it is the same, the running one is kept.
Json replica_key(const spec::Service& service, const spec::Project& project, const JobRow& job,
                 const ModelVersion& model, const std::string& code) {
  Json vars = Json::object();
  for (const auto& [name, value] : project.vars) vars.set(name, value);
  return Json::object({{"model", model.name},
                       {"tree", model.tree},
                       {"version", model.version},
                       {"handler", service.handler_file + ":" + service.handler_function},
                       {"env", job.env},
                       {"code", code},
                       {"vars", std::move(vars)},
                       {"cpu_milli", job.cpu_milli},
                       {"memory_bytes", job.memory_bytes},
                       {"network", service.network == spec::Network::none ? "none" : "host"}});
}

}  // namespace

// The run's replicas take over: those that are the same as running ones adopt them, the others
// queue; what is left of the earlier run retires once the new ones are ready.
void Services::begin(RunRow& run) {
  Endpoint& endpoint = open_endpoint(run);
  std::string error;
  if (!assign(endpoint, run, error)) {
    for (JobRow job : runs_.tables.jobs_of(run.id))
      if (job.kind == "replica" && job.state == "blocked") runs_.end_job(job, "failed", error);
    if (endpoint.replicas.empty() && endpoint.gateway == 0) endpoints_.erase(endpoint.id);
    return runs_.set_run_state(run, "failed", error);
  }
  if (auto made = make_folders_of(endpoint, run); !made)
    return give_up(endpoint, made.error().text);
  write_plan(endpoint);
  ensure_gateway(endpoint, run);
  check_ready(endpoint);
}

bool Services::assign(Endpoint& endpoint, RunRow& run, std::string& error) {
  const ProjectPtr project = runs_.project_of(run);
  if (!project) {
    error = run.file + ": can no longer be read; submit it again";
    return false;
  }
  std::map<std::string, ModelVersion> versions;
  for (const spec::Service& service : project->services) {
    const std::optional<std::int64_t> wanted =
        service.version ? std::optional<std::int64_t>(*service.version) : std::nullopt;
    const auto version = runs_.models.find(run.uid, {service.model, wanted});
    if (!version) {
      error =
          "services." + service.name + ": there is no " +
          (wanted ? "version " + std::to_string(*wanted) + " of model '" : "version of model '") +
          service.model + "' yet; train it (loam train) or import one (loam models import)";
      return false;
    }
    versions[service.name] = *version;
  }
  const auto snapshot = Digest::parse(run.snapshot);
  const auto listing =
      snapshot ? runs_.node.store.listing(*snapshot) : std::vector<store::ListingEntry>{};
  const std::string code =
      listing ? store::Store::listing_digest(code_entries(*listing, {}, run.file)).hex()
              : run.snapshot;
  // The earlier run has served its time.
  const RunId before = endpoint.run;
  endpoint.run = run.id;
  endpoint.ready.clear();
  std::vector<JobRow> fresh;
  std::set<JobId> adopted;
  for (JobRow job : runs_.tables.jobs_of(run.id)) {
    const spec::Service* service =
        job.kind == "replica" && job.state == "blocked" ? runs_.service_of(run, job) : nullptr;
    if (service == nullptr) continue;
    const ModelVersion& version = versions[service->name];
    job.key = replica_key(*service, *project, job, version, code);
    job.model = version.name;
    job.version = version.version;
    job.tree = version.tree;
    job.endpoint = endpoint.id;
    const auto same =
        std::find_if(endpoint.replicas.begin(), endpoint.replicas.end(), [&](const auto& replica) {
          const auto row = runs_.tables.job(replica.first);
          return row && !adopted.contains(row->id) && !replica.second.retiring &&
                 row->service == job.service && row->run != run.id && row->key == job.key &&
                 !row->cancel && !row->ended();
        });
    if (same == endpoint.replicas.end() || run.options["force"].as_bool()) {
      fresh.push_back(std::move(job));
      continue;
    }
    adopted.insert(same->first);
    JobRow kept = *runs_.tables.job(same->first);
    kept.run = run.id;
    kept.name = job.name;
    runs_.tables.save(kept);
    runs_.tables.remember_record(run.id, kept.record);
    runs_.secrets.forget_job(job.id);
    runs_.node.db.write("DELETE FROM jobs WHERE id=?", {job.id});
  }
  for (auto& [id, replica] : endpoint.replicas)
    if (const auto row = runs_.tables.job(id); row && row->run != run.id) replica.retiring = true;
  if (auto earlier = runs_.tables.run(before); earlier && before != run.id) {
    for (const JobRow& job : runs_.tables.jobs_of(before))
      if (job.kind == "replica" && job.waits())
        runs_.cancel_job(job, "replaced by run " + std::to_string(run.id));
    if (earlier->state == "serving" || earlier->state == "running") {
      runs_.note(before, "replaced by run " + std::to_string(run.id));
      runs_.set_run_state(*earlier, "succeeded");
    }
  }
  save(endpoint);
  for (JobRow& job : fresh) {
    endpoint.replicas[job.id] = Replica{.service = job.service};
    service_event(endpoint, job.service, "starting");
    runs_.enqueue(job);
  }
  return true;
}

void Services::ensure_gateway(Endpoint& endpoint, const RunRow& run) {
  const auto project = runs_.project_of(run);
  const std::string listen = project ? project->endpoint : endpoint.listen;
  auto job = runs_.tables.job(endpoint.gateway);
  const bool moved = endpoint.listen != listen;
  endpoint.listen = listen;
  if (moved) endpoint.listened = false;
  if (job && !job->ended() && job->cancel)
    return save(endpoint);  // its end makes room for the next
  if (job && !job->ended()) {
    job->run = run.id;
    runs_.tables.save(*job);
    save(endpoint);
    // Another address is another gateway: its end starts the next one.
    if (const auto attempt = runs_.last_attempt(job->id);
        moved && attempt && attempt->state != "ended") {
      endpoint.moving = true;
      endpoint.status = Json();
      runs_.node.supervisor.stop(attempt->id, api::Outcome::cancelled);
    }
    return;
  }
  JobRow gateway;
  gateway.run = run.id;
  gateway.name = gateway.kind = "gateway";
  gateway.state = "queued";
  gateway.endpoint = endpoint.id;
  gateway.created_ms = wall_ms();
  endpoint.gateway = runs_.tables.insert(gateway);
  endpoint.listened = false;
  save(endpoint);
  runs_.start_attempt(endpoint.gateway);
}

void Services::gather(StartInputs& inputs) {
  const Endpoint* endpoint = of_job(inputs.job);
  if (endpoint == nullptr) return;
  inputs.endpoint_folder = folder_of(*endpoint);
  if (inputs.job.kind != "replica") return;
  inputs.model_tree = inputs.job.tree;
  inputs.channel_folder =
      inputs.endpoint_folder + "/replicas/" + work_name(inputs.job.id, inputs.number);
}

void Services::started(const JobRow& job, AttemptId attempt, const StartInputs& inputs) {
  Endpoint* endpoint = of_job(job);
  if (endpoint == nullptr) return;
  if (job.kind == "gateway") {
    endpoint->status = Json();  // what an earlier one said
    endpoint->moving = false;
    (void)::unlink((folder_of(*endpoint) + "/status/status.json").c_str());
    return;
  }
  Replica& replica = endpoint->replicas[job.id];
  replica.service = job.service;
  replica.attempt = attempt;
  replica.folder = work_name(job.id, inputs.number);
  replica.running = false;
}

void Services::on_running(const JobRow& job, const AttemptView& attempt) {
  Endpoint* endpoint = of_job(job);
  if (endpoint == nullptr || job.kind != "replica") return;
  Replica& replica = endpoint->replicas[job.id];
  replica.service = job.service;
  replica.attempt = attempt.id;
  replica.folder = work_name(job.id, attempt.number);
  replica.running = true;
  replica_record(*endpoint, job, attempt);
  write_plan(*endpoint);
}

// The record that each answered request points at.
void Services::replica_record(Endpoint& endpoint, const JobRow& listed,
                              const AttemptView& attempt) {
  auto job = runs_.tables.job(listed.id);
  const auto run = job ? runs_.tables.run(job->run) : std::nullopt;
  const spec::Service* service = run ? runs_.service_of(*run, *job) : nullptr;
  if (service == nullptr) return;
  store::Store& store = runs_.node.store;
  const auto put = [&](const Json& record) {
    const auto digest = store.put_record(record);
    if (digest) runs_.tables.remember_record(job->run, digest->hex());
    return digest ? digest->hex() : std::string();
  };
  const auto env = runs_.envs.find(job->env);
  const auto version = runs_.models.find(run->uid, {job->model, job->version});
  trace::ReplicaFacts facts;
  facts.service = job->service;
  facts.attempt = Runs::Impl::target_text(*job) + "/" + std::to_string(attempt.number);
  facts.handler = service->handler_file + ":" + service->handler_function;
  facts.model = version ? version->record : "";
  facts.env = env ? put(trace::env_record(env->section, env->tree)) : "";
  facts.code =
      put(trace::code_record(run->snapshot, static_cast<std::uint64_t>(run->snapshot_files),
                             static_cast<std::uint64_t>(run->snapshot_bytes)));
  facts.host = put(trace::host_record(runs_.node.host_facts, sandbox::to_json(runs_.node.guards)));
  facts.missing_guards = Json::array();
  facts.started_ms = attempt.started_ms;
  Replica& replica = endpoint.replicas[job->id];
  replica.record = put(trace::replica_record(facts));
  job->record = replica.record;
  runs_.tables.save(*job);
}

void Services::write_plan(Endpoint& endpoint) {
  const auto run = runs_.tables.run(endpoint.run);
  const ProjectPtr project = run ? runs_.project_of(*run) : nullptr;
  if (!project) return;
  api::EndpointPlan plan{.project = endpoint.project, .listen = project->endpoint, .models = {}};
  for (const spec::Service& service : project->services) {
    api::ModelPlan model;
    model.name = service.name;
    model.batch_max = service.batch_max;
    model.batch_delay_max_us =
        std::chrono::duration_cast<std::chrono::microseconds>(service.batch_delay_max).count();
    for (const auto& [id, replica] : endpoint.replicas) {
      if (replica.service != service.name) continue;
      const auto job = runs_.tables.job(id);
      if (job && (!replica.retiring || model.version.empty()))
        model.version = std::to_string(job->version);
      if (replica.running)
        model.replicas.push_back({.attempt = replica.folder, .record = replica.record});
    }
    plan.models.push_back(std::move(model));
  }
  auto written = write_file_atomic(folder_of(endpoint) + "/plan/plan.json",
                                   api::to_json(plan).dump(), {.mode = 0644});
  if (!written) runs_.note(endpoint.run, "the endpoint's plan: " + written.error().text);
}

int Services::ready_replicas(const Endpoint& endpoint, const std::string& service) const {
  for (const Json& model : endpoint.status["models"].as_array())
    if (model["name"].as_string() == service)
      return static_cast<int>(model["ready_replicas"].as_int());
  return 0;
}

// New replicas serve beside the old ones until the gateway counts them all; then the old ones go.
void Services::check_ready(Endpoint& endpoint) {
  auto run = runs_.tables.run(endpoint.run);
  const ProjectPtr project = run ? runs_.project_of(*run) : nullptr;
  if (!project || !endpoint.active) return;
  std::set<std::string> known;
  bool all = !endpoint.status["listening"].as_string().empty();
  for (const spec::Service& service : project->services) {
    known.insert(service.name);
    int fresh = 0, fresh_running = 0, old_running = 0;
    for (const auto& [id, replica] : endpoint.replicas) {
      if (replica.service != service.name) continue;
      fresh += replica.retiring ? 0 : 1;
      fresh_running += !replica.retiring && replica.running ? 1 : 0;
      old_running += replica.retiring && replica.running ? 1 : 0;
    }
    const int ready = ready_replicas(endpoint, service.name);
    std::string error;
    for (const Json& model : endpoint.status["models"].as_array())
      if (model["name"].as_string() == service.name) error = model["error"].as_string();
    const bool serves = fresh > 0 && fresh_running == fresh && ready >= fresh + old_running;
    // Old and new that do not agree (another signature) cannot serve together: the new ones win.
    if (serves || (!error.empty() && fresh_running == fresh))
      drop_retiring(endpoint, service.name, "replaced by run " + std::to_string(run->id));
    if (serves && endpoint.ready.insert(service.name).second)
      service_event(endpoint, service.name, "ready");
    if (!serves && !error.empty() && endpoint.told[service.name] != error)
      service_event(endpoint, service.name, "starting", error);
    endpoint.told[service.name] = error;
    all = all && serves;
  }
  std::set<std::string> removed;
  for (const auto& [id, replica] : endpoint.replicas)
    if (replica.retiring && !known.contains(replica.service)) removed.insert(replica.service);
  if (all || !removed.empty())
    for (const std::string& service : removed)
      drop_retiring(endpoint, service, "no longer in the project");
  if (all) announce(endpoint, *run);
}

void Services::announce(Endpoint& endpoint, RunRow& run) {
  if (run.state != "running") return;
  Json models{Json::Array{}};
  for (const Json& model : endpoint.status["models"].as_array())
    models.push(printable(model["name"].as_string()));
  run.endpoint = printable(endpoint.status["listening"].as_string());
  runs_.events.add(run.id, "endpoint",
                   Json::object({{"listening", run.endpoint}, {"models", std::move(models)}}));
  runs_.set_run_state(run, "serving");
}

// First out of the plan, so that the gateway sends nothing more, then told to stop.
void Services::drop_retiring(Endpoint& endpoint, const std::string& service,
                             const std::string& why) {
  std::vector<JobId> gone;
  for (auto& [id, replica] : endpoint.replicas) {
    if (!replica.retiring || replica.service != service) continue;
    gone.push_back(id);
    replica.running = false;
  }
  if (gone.empty()) return;
  write_plan(endpoint);
  for (const JobId id : gone) {
    if (const auto job = runs_.tables.job(id)) runs_.cancel_job(*job, why);
    if (const auto job = runs_.tables.job(id); !job || job->ended()) endpoint.replicas.erase(id);
  }
}

void Services::service_event(const Endpoint& endpoint, const std::string& service,
                             const std::string& state, const std::string& error) {
  Json data = Json::object({{"service", service}, {"state", state}});
  int replicas = 0;
  for (const auto& [id, replica] : endpoint.replicas) {
    if (replica.service != service || replica.retiring) continue;
    ++replicas;
    if (const auto job = runs_.tables.job(id))
      data.set("model_version", job->model + "@" + std::to_string(job->version));
  }
  data.set("replicas", replicas);
  data.set("ready", std::min(ready_replicas(endpoint, service), replicas));  // old ones beside them
  if (!error.empty()) data.set("error", printable(error));
  runs_.events.add(endpoint.run, "service", data);
}

void Services::start_failed(JobRow job, const std::string& error) { restart_later(job, 0, error); }

void Services::on_exit(JobRow job, const AttemptView& attempt, const api::ExitRecord& record,
                       bool reboot) {
  Endpoint* endpoint = of_job(job);
  if (endpoint == nullptr) return runs_.end_job(job, "cancelled", "");
  const bool is_gateway = job.kind == "gateway";
  bool retiring = false;
  if (const auto found = endpoint->replicas.find(job.id);
      !is_gateway && found != endpoint->replicas.end()) {
    retiring = found->second.retiring;
    found->second.running = false;
    if (!found->second.folder.empty())
      (void)remove_tree(folder_of(*endpoint) + "/replicas/" + found->second.folder);
    if (runs_.resumed) write_plan(*endpoint);
  }
  if (job.cancel || retiring || !endpoint->active) {
    endpoint->replicas.erase(job.id);
    pauses_.erase(job.id);
    runs_.end_job(job, "cancelled", "", Json::object({{"why", job.why}}));
    if (!runs_.resumed || !endpoint->active) return;
    if (const auto run = runs_.tables.run(endpoint->run); run && is_gateway)
      ensure_gateway(*endpoint, *run);
    return check_ready(*endpoint);
  }
  const auto attempts = runs_.node.supervisor.attempts_of(job.id);
  for (std::size_t i = 0; i + kReplicaFoldersKept < attempts.size(); ++i)
    (void)runs_.node.supervisor.remove_folder(attempts[i].id);
  const std::string line = runs_.last_words(attempt);
  const std::string why = describe_exit(record) + (line.empty() ? "" : ": " + line);
  if (is_gateway) status_changed(endpoint->id);
  const std::string refusal = is_gateway ? endpoint->status["error"].as_string() : "";
  const bool moved = is_gateway && record.outcome == api::Outcome::cancelled;
  if (is_gateway && !endpoint->listened && !reboot && !moved &&
      record.outcome != api::Outcome::lost)
    return give_up(*endpoint,
                   refusal.empty() ? "the gateway ended before it listened: " + why : refusal);
  const std::int64_t lived_ms = attempt.started_ms == 0 ? 0 : attempt.ended_ms - attempt.started_ms;
  restart_later(job, reboot || moved ? kLivedMs : lived_ms,
                reboot ? "the machine was restarted" : why);
}

void Services::restart_later(JobRow& job, std::int64_t lived_ms, const std::string& why) {
  Endpoint* endpoint = of_job(job);
  if (endpoint == nullptr) return runs_.end_job(job, "failed", why);
  Pause& pause = pauses_[job.id];
  pause.wait_ms = lived_ms >= kLivedMs || pause.wait_ms == 0
                      ? kPauseFirstMs
                      : std::min(pause.wait_ms * 2, kPauseLastMs);
  job.state = "queued";  // it keeps its claim
  job.error = printable(why);
  job.why = "starts again: " + printable(why);
  runs_.tables.save(job);
  endpoint->ready.erase(job.service);
  const std::string what = job.kind == "gateway" ? "gateway" : job.service;
  service_event(*endpoint, what, "restarting", why);
  if (!runs_.resumed) return;  // resume() starts it
  pause.timer = runs_.node.loop.after(std::chrono::milliseconds(pause.wait_ms),
                                      [this, id = job.id] { runs_.start_attempt(id); });
}

}  // namespace loam::node
