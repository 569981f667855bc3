// A run's services take the place of an earlier run's: replicas that are the same are adopted, the
// others start beside the old ones, which leave once the new ones are ready.
//
//   begin ─ versions ─ adopt or queue ─ gateway counts the new ones ─▶ the old leave ─▶ announce
//                                  └─ cancelled, refused ─▶ give_back: the earlier run serves on
//
// An adopted replica stays its own run's until ours is announced; a blocked job of ours stands in
// for it meanwhile. So the rows alone say after a restart who was replacing whom.
#include <algorithm>

#include "base/text.h"
#include "node/services.h"
#include "node/staleness.h"

namespace loam::node {
namespace {

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
                       {"request", job.request},
                       {"network", service.network == spec::Network::none ? "none" : "host"}});
}

std::string name_of(RunId run) { return "run " + std::to_string(run); }

}  // namespace

void Services::begin(RunRow& run) {
  if (const RunId later = later_run(run)) return step_aside(run, later);
  std::string error;
  const auto versions = find_versions(run, error);
  if (!error.empty()) {
    for (JobRow job : runs_.tables.jobs_of(run.id))
      if (job.kind == "replica" && job.state == "blocked") runs_.end_job(job, "failed", error);
    return runs_.set_run_state(run, "failed", error);
  }
  Endpoint& endpoint = open_endpoint(run);
  take_place(endpoint, run, versions);
  if (auto made = make_folders_of(endpoint, run); !made)
    return give_up(endpoint, made.error().text);
  plan_changed(endpoint);
  ensure_gateway(endpoint, run);
  check_ready(endpoint);
}

// Of two runs at once the one that was submitted last serves, whichever trains longer.
RunId Services::later_run(const RunRow& run) {
  for (const auto& [id, endpoint] : endpoints_) {
    if (endpoint->uid != run.uid || endpoint->project != run.project || !endpoint->active) continue;
    const auto holder = runs_.tables.run(endpoint->run);
    if (holder && holder->id > run.id && (holder->state == "running" || holder->state == "serving"))
      return holder->id;
  }
  return 0;
}

void Services::step_aside(RunRow& run, RunId later) {
  const auto holder = runs_.tables.run(later);
  const bool same = holder && holder->text == run.text && holder->snapshot == run.snapshot;
  const std::string why = name_of(later) + " of this project was submitted later and " +
                          (same ? "serves the same" : "has the endpoint");
  for (JobRow job : runs_.tables.jobs_of(run.id))
    if (job.kind == "replica" && !job.ended())
      runs_.end_job(job, "skipped", "", Json::object({{"why", why}}));
  runs_.note(run.id, same ? why : why + "; to serve this run's result: loam serve");
  runs_.set_run_state(run, "succeeded");
}

std::map<std::string, ModelVersion> Services::find_versions(const RunRow& run, std::string& error) {
  std::map<std::string, ModelVersion> versions;
  const ProjectPtr project = runs_.project_of(run);
  if (!project) {
    error = run.file + ": can no longer be read; submit it again";
    return versions;
  }
  for (const spec::Service& service : project->services) {
    const std::optional<std::int64_t> wanted =
        service.version ? std::optional<std::int64_t>(*service.version) : std::nullopt;
    const auto version = runs_.models.find(run.uid, {service.model, wanted});
    if (!version) {
      error =
          "services." + service.name + ": there is no " +
          (wanted ? "version " + std::to_string(*wanted) + " of model '" : "version of model '") +
          service.model + "' yet; train it (loam train) or import one (loam models import)";
      return versions;
    }
    versions[service.name] = *version;
  }
  return versions;
}

void Services::take_place(Endpoint& endpoint, RunRow& run,
                          const std::map<std::string, ModelVersion>& versions) {
  endpoint.run = run.id;
  endpoint.plan.clear();
  endpoint.ready.clear();
  endpoint.adopted.clear();
  std::vector<JobRow> fresh = adopt_same(endpoint, run, versions);
  mark_retiring(endpoint);
  drop_unready(endpoint);
  save(endpoint);
  for (JobRow& job : fresh) {
    endpoint.replicas[job.id] = Replica{.service = job.service};
    runs_.tables.save(job);
    service_event(endpoint, job.service, "starting");
    runs_.enqueue(job);
  }
  make_room(endpoint);
}

// The jobs that no living replica can stand for.
std::vector<JobRow> Services::adopt_same(Endpoint& endpoint, const RunRow& run,
                                         const std::map<std::string, ModelVersion>& versions) {
  const ProjectPtr project = runs_.project_of(run);
  const std::string code = runs_.code.digest({run.snapshot, run.file}, {});
  std::map<std::string, int> replicas;  // of each service, so far
  std::vector<JobRow> fresh;
  for (JobRow job : runs_.tables.jobs_of(run.id)) {
    const spec::Service* service =
        job.kind == "replica" && job.state == "blocked" ? runs_.service_of(run, job) : nullptr;
    if (service == nullptr) continue;
    const ModelVersion& version = versions.at(service->name);
    job.key = replica_key(*service, *project, job, version, code);
    job.model = version.name;
    job.version = version.version;
    job.tree = version.tree;
    job.endpoint = endpoint.id;
    const JobId same = run.options["force"].as_bool() ? 0 : living_equal(endpoint, job);
    const bool needed = same != 0 || replicas[service->name] < service->replicas.min;
    replicas[service->name] += needed ? 1 : 0;
    if (!needed) {
      park(endpoint, std::move(job));
      continue;
    }
    if (same == 0) {
      fresh.push_back(std::move(job));
      continue;
    }
    endpoint.adopted[same] = job.id;
    job.why = "takes over " + Runs::Impl::target_text(*runs_.tables.job(same));
    runs_.tables.save(job);
  }
  return fresh;
}

// A replica of an earlier run that is what `job` asks for and that no other job of ours has.
JobId Services::living_equal(const Endpoint& endpoint, const JobRow& job) {
  for (const auto& [id, replica] : endpoint.replicas) {
    const auto row = runs_.tables.job(id);
    if (row && !endpoint.adopted.contains(id) && row->service == job.service &&
        row->run != job.run && row->key == job.key && is_live(replica, *row))
      return id;
  }
  return 0;
}

// Before there is a run: whether a living replica is what this job would be.
bool Services::serves_alike(const RunRow& run, const spec::Project& project, JobRow job,
                      const ModelVersion& version, const std::string& code) {
  for (const spec::Service& service : project.services)
    if (service.name == job.service)
      job.key = replica_key(service, project, job, version, code);
  for (const auto& [id, endpoint] : endpoints_)
    if (endpoint->uid == run.uid && endpoint->project == run.project && endpoint->active &&
        living_equal(*endpoint, job) != 0)
      return true;
  return false;
}

void Services::mark_retiring(Endpoint& endpoint) {
  for (auto& [id, replica] : endpoint.replicas)
    if (const auto row = runs_.tables.job(id))
      replica.retiring = row->run != endpoint.run && !endpoint.adopted.contains(id);
}

// What never served is not kept beside what does; what has not even started is not to start.
void Services::drop_unready(Endpoint& endpoint) {
  const std::string why = "replaced by " + name_of(endpoint.run);
  const auto state_of = [&](RunId id) {
    const auto run = runs_.tables.run(id);
    return run ? run->state : std::string();
  };
  std::vector<JobRow> earlier;
  for (JobRow& job :
       runs_.tables.jobs("kind='replica' AND endpoint=? AND run<>?", {endpoint.id, endpoint.run}))
    if (!job.ended() && !endpoint.adopted.contains(job.id)) earlier.push_back(std::move(job));
  const bool one_serves = std::any_of(earlier.begin(), earlier.end(), [&](const JobRow& job) {
    return state_of(job.run) == "serving";
  });
  for (const JobRow& job : earlier) {
    const bool serves = state_of(job.run) == "serving";  // and will again, where ours is cancelled
    const bool never_started = job.waits() && !runs_.last_attempt(job.id);
    if (serves && replicas_of(job).min < replicas_of(job).max) {
      if (job.in_queue() && runs_.node.queue.placement(job.id) == nullptr) park(endpoint, job);
    } else if (never_started || (one_serves && !serves)) {
      drop(endpoint, job, why);
    }
  }
  end_replaced(endpoint, why);
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
    all = check_service(endpoint, service) && all;
  }
  std::set<std::string> removed;
  for (const auto& [id, replica] : endpoint.replicas)
    if (replica.retiring && !known.contains(replica.service)) removed.insert(replica.service);
  if (!all) return;
  for (const std::string& service : removed)
    drop_retiring(endpoint, service, "no longer in the project");
  announce(endpoint, *run, *project);
}

// Those above the least number are not waited for: they may find no room for days.
bool Services::check_service(Endpoint& endpoint, const spec::Service& wanted) {
  const std::string& service = wanted.name;
  const std::set<std::string> ready = ready_replicas(endpoint, service);
  int count = 0, serving = 0;
  std::string version;
  for (const auto& [id, replica] : endpoint.replicas) {
    if (replica.service != service || replica.retiring) continue;
    ++count;
    if (const auto job = runs_.tables.job(id)) version = std::to_string(job->version);
    serving += replica.running && ready.contains(replica.folder) ? 1 : 0;
  }
  const bool any = count > 0;
  const bool serves = any && serving >= std::min(count, wanted.replicas.min);
  std::string error;
  bool conflict = false;
  for (const Json& model : endpoint.status["models"].as_array()) {
    if (model["name"].as_string() != service || model["version"].as_string() != version) continue;
    error = model["error"].as_string();
    conflict = model["conflict"].as_bool();
  }
  // Old and new that do not agree (another signature) cannot serve together: the new ones win.
  if (serves || (conflict && any))
    drop_retiring(endpoint, service, "replaced by " + name_of(endpoint.run));
  if (serves && endpoint.ready.insert(service).second) service_event(endpoint, service, "ready");
  if (!serves && !error.empty() && endpoint.told[service] != error)
    service_event(endpoint, service, "starting", error);
  endpoint.told[service] = error;
  return serves;
}

void Services::announce(Endpoint& endpoint, RunRow& run, const spec::Project& project) {
  if (run.state != "running") return;
  Json models{Json::Array{}};  // the gateway may still count what is about to end
  for (const spec::Service& service : project.services) models.push(service.name);
  run.endpoint = printable(endpoint.status["listening"].as_string());
  const Json serves = Json::object({{"listening", run.endpoint}, {"models", std::move(models)}});
  const std::string why = "replaced by " + name_of(run.id);
  for (const auto& [living, stand_in] : std::map(endpoint.adopted)) {
    const auto row = runs_.tables.job(living);
    const auto earlier = row ? runs_.tables.run(row->run) : std::nullopt;
    hand_over(endpoint, living);
    if (!earlier) continue;
    // Who still waits for that replica has what he asked for.
    if (earlier->state == "running") runs_.events.add(earlier->id, "endpoint", serves);
    end_if_replaced(earlier->id, why);
  }
  end_replaced(endpoint, why);
  runs_.events.add(run.id, "endpoint", serves);
  runs_.set_run_state(run, "serving");
  plan_changed(endpoint);  // from now on the load says how many
}

// The adopted replica becomes the job that stood in for it.
bool Services::hand_over(Endpoint& endpoint, JobId living) {
  const auto found = endpoint.adopted.find(living);
  if (found == endpoint.adopted.end()) return false;
  auto row = runs_.tables.job(living);
  const auto stand_in = runs_.tables.job(found->second);
  endpoint.adopted.erase(found);
  if (!row || row->ended() || row->cancel || !stand_in || stand_in->ended()) return false;
  row->run = stand_in->run;
  row->name = stand_in->name;
  runs_.tables.save(*row);
  runs_.tables.remember_record(row->run, row->record);
  runs_.secrets.forget_job(stand_in->id);
  runs_.node.db.write("DELETE FROM jobs WHERE id=?", {stand_in->id});
  return true;
}

bool Services::spared(const JobRow& job) {
  Endpoint* endpoint = of_job(job);
  if (endpoint == nullptr || !endpoint->active) return false;
  if (hand_over(*endpoint, job.id)) return true;
  if (std::erase_if(endpoint->adopted, [&](const auto& pair) { return pair.second == job.id; }) > 0)
    mark_retiring(*endpoint);
  return false;
}

// Earlier runs of which nothing serves any more have served their time.
void Services::end_replaced(const Endpoint& endpoint, const std::string& why) {
  for (const RunRow& earlier : runs_.tables.runs(
           "state IN ('running','serving') AND id<>? AND id IN (SELECT run FROM jobs WHERE "
           "kind='replica' AND endpoint=?)",
           {endpoint.run, endpoint.id}))
    end_if_replaced(earlier.id, why);
}

void Services::end_if_replaced(RunId id, const std::string& why) {
  auto run = runs_.tables.run(id);
  if (!run || (run->state != "running" && run->state != "serving")) return;
  const auto jobs = runs_.tables.jobs_of(id);
  if (std::any_of(jobs.begin(), jobs.end(), [](const JobRow& job) {
        return job.kind == "replica" && !job.ended() && !job.cancel && !job.parked();
      }))
    return;
  end_parked(id, why);
  runs_.note(id, why);
  runs_.set_run_state(*run, "succeeded");
}

// They stay in the plan until they have ended: a worker that is told to end answers the batch it
// has and takes no other.
void Services::drop_retiring(Endpoint& endpoint, const std::string& service,
                             const std::string& why) {
  std::vector<JobId> gone;
  for (auto& [id, replica] : endpoint.replicas)
    if (replica.retiring && replica.service == service) gone.push_back(id);
  if (gone.empty()) return;
  for (const JobId id : gone)
    if (const auto job = runs_.tables.job(id)) drop(endpoint, *job, why);
  plan_changed(endpoint);
  end_replaced(endpoint, why);
}

void Services::drop(Endpoint& endpoint, const JobRow& job, const std::string& why) {
  runs_.cancel_job(job, why);
  if (const auto now = runs_.tables.job(job.id); !now || now->ended())
    endpoint.replicas.erase(job.id);
}

// The run that had the endpoint before, where all of it still lives, has it again.
bool Services::give_back(Endpoint& endpoint, const std::string& why) {
  const RunId gone = endpoint.run;
  std::optional<RunRow> earlier;
  for (const auto& [id, replica] : endpoint.replicas) {
    const auto row = runs_.tables.job(id);
    if (!row || row->run == gone || row->ended() || row->cancel) continue;
    auto run = runs_.tables.run(row->run);
    if (run && (run->state == "serving" || run->state == "running") &&
        (!earlier || run->id > earlier->id))
      earlier = std::move(run);
  }
  if (!earlier) return false;
  endpoint.run = earlier->id;
  endpoint.folder = earlier->folder;
  endpoint.adopted.clear();
  endpoint.ready.clear();
  endpoint.told.clear();
  mark_retiring(endpoint);
  runs_.note(gone, name_of(earlier->id) + " serves on");
  runs_.note(earlier->id, name_of(gone) + " " + why + "; this run serves on");
  for (const JobRow& job : runs_.tables.jobs_of(gone))
    if (job.kind == "replica" && !job.ended()) drop(endpoint, job, why);
  plan_changed(endpoint);
  ensure_gateway(endpoint, *earlier);
  check_ready(endpoint);
  return true;
}

}  // namespace loam::node
