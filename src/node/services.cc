#include "node/services.h"

#include <unistd.h>

#include <algorithm>

#include "api/endpoint.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/text.h"
#include "trace/records.h"

namespace loam::node {
namespace {

constexpr std::int64_t kPauseFirstMs = 100;
constexpr std::int64_t kPauseLastMs = 30'000;
constexpr std::int64_t kLivedMs = 60'000;  // after this the pauses begin anew
constexpr int kReplicaFoldersKept = 10;    // of a replica that dies again and again

std::int64_t microseconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
}

}  // namespace

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
  plan_changed(*endpoint);
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
  plan_changed(*endpoint);
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

// As the turn leaves it: where an old replica's end starts a new one, the gateway is not told of a
// moment without either.
void Services::plan_changed(const Endpoint& endpoint) {
  runs_.node.db.after_commit([this, id = endpoint.id] {
    if (const auto found = endpoints_.find(id); found != endpoints_.end())
      write_plan(*found->second);
  });
}

void Services::write_plan(Endpoint& endpoint) {
  const auto run = runs_.tables.run(endpoint.run);
  const ProjectPtr project = run ? runs_.project_of(*run) : nullptr;
  if (!project || !endpoint.active) return;
  std::string text = api::to_json(plan_of(endpoint, *project)).dump();
  if (text == endpoint.plan) return;
  // Not durable: a gateway that outlives a power cut there is not, and resume() writes it anew.
  const auto written = write_file_atomic(folder_of(endpoint) + "/plan/plan.json", text,
                                         {.mode = 0644, .durable = false});
  if (!written) return runs_.note(endpoint.run, "the endpoint's plan: " + written.error().text);
  endpoint.plan = std::move(text);
}

// An entry for each version of a service, the new one last, which the gateway prefers once it is
// ready: until then the old replicas answer as what they are. One that is told to end stays until
// it has, so that it can answer what it holds.
api::EndpointPlan Services::plan_of(const Endpoint& endpoint, const spec::Project& project) {
  std::vector<api::ModelPlan> current, earlier;
  for (const bool retiring : {false, true})
    for (const auto& [id, replica] : endpoint.replicas) {
      const auto job = runs_.tables.job(id);
      const spec::Service* service = job ? service_of(project, *job) : nullptr;
      if (service == nullptr || replica.retiring != retiring) continue;
      const auto same = [&](const api::ModelPlan& model) {
        return model.name == service->name && model.version == std::to_string(job->version);
      };
      auto& models = std::any_of(current.begin(), current.end(), same) || !retiring ? current : earlier;
      auto model = std::find_if(models.begin(), models.end(), same);
      if (model == models.end())
        model = models.insert(model, {.name = service->name,
                                      .version = std::to_string(job->version),
                                      .batch_max = service->batch_max,
                                      .batch_delay_max_us = microseconds(service->batch_delay_max)});
      if (!retiring) model->scale = scale_plan(endpoint, *service);
      model->expected = model->expected || is_expected(*job);
      if (replica.running)
        model->replicas.push_back({.attempt = replica.folder, .record = replica.record});
    }
  api::EndpointPlan plan{
      .project = endpoint.project, .listen = project.endpoint, .models = std::move(earlier)};
  for (api::ModelPlan& model : current) plan.models.push_back(std::move(model));
  return plan;
}

// A service that the project no longer has is as its own run's file says.
const spec::Service* Services::service_of(const spec::Project& project, const JobRow& job) {
  for (const spec::Service& service : project.services)
    if (service.name == job.service) return &service;
  const auto run = runs_.tables.run(job.run);
  return run ? runs_.service_of(*run, job) : nullptr;
}

// Whether a request had better wait for it: it starts, or will before the gateway's patience ends.
// One that waits in the queue may do so for days.
bool Services::is_expected(const JobRow& job) {
  if (job.cancel || job.ended()) return false;
  if (runs_.attempt_alive(job.id)) return true;
  const auto pause = pauses_.find(job.id);
  return runs_.node.queue.placement(job.id) != nullptr &&
         (pause == pauses_.end() || std::chrono::milliseconds(pause->second.wait_ms) <= api::kReplicaWait);
}

// The folders of the replicas that answer.
std::set<std::string> Services::ready_replicas(const Endpoint& endpoint,
                                               const std::string& service) const {
  std::set<std::string> folders;
  for (const Json& model : endpoint.status["models"].as_array())
    if (model["name"].as_string() == service)
      for (const std::string& folder : model["ready"].as_strings()) folders.insert(folder);
  return folders;
}

void Services::service_event(const Endpoint& endpoint, const std::string& service,
                             const std::string& state, const std::string& error) {
  Json data = Json::object({{"service", service}, {"state", state}});
  const std::set<std::string> answering = ready_replicas(endpoint, service);
  int replicas = 0, ready = 0;
  for (const auto& [id, replica] : endpoint.replicas) {
    if (replica.service != service || replica.retiring) continue;
    ++replicas;
    ready += answering.contains(replica.folder) ? 1 : 0;
    if (const auto job = runs_.tables.job(id))
      data.set("model_version", job->model + "@" + std::to_string(job->version));
  }
  data.set("replicas", replicas);
  data.set("ready", ready);
  if (!error.empty()) data.set("error", printable(error));
  runs_.events.add(endpoint.run, "service", data);
}

void Services::start_failed(JobRow job, const std::string& error) { restart_later(job, 0, error); }

void Services::on_exit(JobRow job, const AttemptView& attempt, const api::ExitRecord& record,
                       bool reboot) {
  Endpoint* endpoint = of_job(job);
  if (endpoint == nullptr) return runs_.end_job(job, "cancelled", "");
  const bool is_gateway = job.kind == "gateway";
  if (const auto found = endpoint->replicas.find(job.id);
      !is_gateway && found != endpoint->replicas.end()) {
    found->second.running = false;
    if (!found->second.folder.empty())
      (void)remove_tree(folder_of(*endpoint) + "/replicas/" + found->second.folder);
    if (runs_.resumed) plan_changed(*endpoint);
  }
  if (job.cancel || !endpoint->active) {
    endpoint->replicas.erase(job.id);
    pauses_.erase(job.id);
    runs_.end_job(job, "cancelled", "", Json::object({{"why", job.why}}));
    if (!runs_.resumed || !endpoint->active) return;
    const auto run = runs_.tables.run(endpoint->run);
    if (run && is_gateway) ensure_gateway(*endpoint, *run);
    const bool one_left = std::any_of(endpoint->replicas.begin(), endpoint->replicas.end(),
                                      [](const auto& replica) { return !replica.second.retiring; });
    if (run && !is_gateway && !one_left) {  // cancelled by name: nothing is to serve
      runs_.cancel_run(*run, job.why);
      return;
    }
    check_ready(*endpoint);
    return scale(*endpoint);
  }
  const auto attempts = runs_.node.supervisor.attempts_of(job.id);
  for (std::size_t i = 0; i + kReplicaFoldersKept < attempts.size(); ++i)
    (void)runs_.node.supervisor.remove_folder(attempts[i].id);
  if (!is_gateway && !job.preempt.empty()) return given_back(job);
  const std::string line = runs_.last_words(attempt);
  const std::string why = describe_exit(record) + (line.empty() ? "" : ": " + line);
  if (is_gateway) status_changed(endpoint->id);
  const std::string refusal = is_gateway ? endpoint->status["error"].as_string() : "";
  const bool moved = is_gateway && record.outcome == api::Outcome::cancelled;
  if (is_gateway && !endpoint->listened && !reboot && !moved &&
      record.outcome != api::Outcome::lost) {
    if (endpoint->status["port_taken"].as_bool()) return port_taken(*endpoint, std::move(job));
    return give_up(*endpoint,
                   refusal.empty() ? "the gateway ended before it listened: " + why : refusal);
  }
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
  if (const auto found = endpoint->replicas.find(job.id);
      found == endpoint->replicas.end() || !found->second.retiring) {
    endpoint->ready.erase(job.service);
    const std::string what = job.kind == "gateway" ? "gateway" : job.service;
    service_event(*endpoint, what, "restarting", why);
  }
  if (!runs_.resumed) return;  // resume() starts it
  plan_changed(*endpoint);
  pause.timer = runs_.node.loop.after(std::chrono::milliseconds(pause.wait_ms),
                                      [this, id = job.id] { runs_.start_attempt(id); });
}

}  // namespace loam::node
