// The endpoints themselves: their rows and folders, the gateway's word, their end, and their return
// after a restart.
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "api/endpoint.h"
#include "base/files.h"
#include "base/text.h"
#include "node/findings.h"
#include "node/services.h"

namespace loam::node {
namespace {

constexpr std::size_t kStatusBytesMax = 1u << 20;

}  // namespace

Services::Services(Runs::Impl& runs) : runs_(runs) {
  for (const Row& row :
       runs_.node.db.query("SELECT id, uid, project, folder, listen, run, gateway, listened FROM "
                           "endpoints WHERE active=1 ORDER BY id")) {
    auto endpoint = std::make_unique<Endpoint>();
    endpoint->id = row.integer(0);
    endpoint->uid = static_cast<std::uint32_t>(row.integer(1));
    endpoint->project = row.text(2);
    endpoint->folder = row.text(3);
    endpoint->listen = row.text(4);
    endpoint->run = row.integer(5);
    endpoint->gateway = row.integer(6);
    endpoint->listened = row.integer(7) != 0;
    for (const JobRow& job : runs_.tables.jobs("kind='replica' AND endpoint=?", {endpoint->id})) {
      if (job.ended() || job.state == "blocked" || job.state == "preparing" || job.parked())
        continue;
      Replica replica{.service = job.service};
      replica.record = job.record;
      if (const auto attempt = runs_.last_attempt(job.id)) {
        replica.attempt = attempt->id;
        replica.folder = work_name(job.id, attempt->number);
        replica.running = attempt->state == "running";
      }
      endpoint->replicas[job.id] = replica;
    }
    for (const JobRow& job : stand_ins(*endpoint))
      if (const JobId living = living_equal(*endpoint, job)) endpoint->adopted[living] = job.id;
    mark_retiring(*endpoint);
    endpoints_[endpoint->id] = std::move(endpoint);
  }
}

Services::~Services() = default;

bool Services::comes_back(const JobRow& job) {
  Endpoint* endpoint = of_job(job);
  if (endpoint == nullptr || !endpoint->replicas.contains(job.id) || runs_.attempt_alive(job.id))
    return false;
  if (job.preempt.empty()) return true;
  park(*endpoint, job);
  return false;
}

void Services::resume() {
  for (auto& [id, endpoint] : endpoints_) {
    const auto run = runs_.tables.run(endpoint->run);
    if (!run) continue;
    if (auto watched = watch_status(*endpoint); !watched)
      runs_.note(endpoint->run, watched.error().text);
    status_changed(id);
    for (const auto& [job_id, replica] : std::map(endpoint->replicas)) {
      auto job = runs_.tables.job(job_id);
      if (!job || job->ended() || runs_.attempt_alive(job_id) ||
          runs_.node.queue.contains(job_id))
        continue;
      runs_.enqueue(*job);
    }
    for (JobRow& job : stand_ins(*endpoint))
      if (std::none_of(endpoint->adopted.begin(), endpoint->adopted.end(),
                       [&](const auto& pair) { return pair.second == job.id; })) {
        endpoint->replicas[job.id] = Replica{.service = job.service};
        runs_.enqueue(job);
      }
    plan_changed(*endpoint);
    if (auto gateway = runs_.tables.job(endpoint->gateway);
        gateway && !gateway->ended() && !runs_.attempt_alive(gateway->id)) {
      gateway->state = "queued";
      runs_.tables.save(*gateway);
      runs_.start_attempt(gateway->id);
    } else if (!gateway || gateway->ended()) {
      ensure_gateway(*endpoint, *run);
    }
    check_ready(*endpoint);
    scale(*endpoint);
  }
}

// Our jobs for which an earlier run's replica was found.
std::vector<JobRow> Services::stand_ins(const Endpoint& endpoint) {
  return runs_.tables.jobs(
      "kind='replica' AND state='blocked' AND run=? AND endpoint=? ORDER BY id",
      {endpoint.run, endpoint.id});
}

Services::Endpoint* Services::of_job(const JobRow& job) {
  const auto found = endpoints_.find(job.endpoint);
  return found == endpoints_.end() ? nullptr : found->second.get();
}

std::string Services::folder_of(const Endpoint& endpoint) const {
  return runs_.node.context.paths.endpoints + "/" + std::to_string(endpoint.id);
}

Services::Endpoint& Services::open_endpoint(const RunRow& run) {
  for (auto& [id, endpoint] : endpoints_)
    if (endpoint->uid == run.uid && endpoint->project == run.project) {
      endpoint->active = true;
      endpoint->folder = run.folder;
      return *endpoint;
    }
  auto endpoint = std::make_unique<Endpoint>();
  endpoint->uid = run.uid;
  endpoint->project = run.project;
  endpoint->folder = run.folder;
  const auto rows = runs_.node.db.query("SELECT id FROM endpoints WHERE uid=? AND project=?",
                                        {std::int64_t{run.uid}, run.project});
  endpoint->id = !rows.empty() ? rows[0].integer(0)
                               : runs_.node.db.insert(
                                     "INSERT INTO endpoints(uid, project, active) VALUES(?,?,0)",
                                     {std::int64_t{run.uid}, run.project});
  return *(endpoints_[endpoint->id] = std::move(endpoint));
}

void Services::save(const Endpoint& endpoint) {
  runs_.node.db.write(
      "UPDATE endpoints SET folder=?, listen=?, run=?, gateway=?, active=?, listened=? WHERE id=?",
      {endpoint.folder, endpoint.listen, endpoint.run, endpoint.gateway,
       std::int64_t{endpoint.active ? 1 : 0}, std::int64_t{endpoint.listened ? 1 : 0},
       endpoint.id});
}

Result<void> Services::make_folders_of(Endpoint& endpoint, const RunRow& run) {
  const std::string folder = folder_of(endpoint);
  LOAM_CHECK(make_folders(folder + "/plan", 0711));
  for (const std::string& path : {runs_.node.context.paths.endpoints, folder})
    if (::chmod(path.c_str(), 0711) != 0) return fail_errno(path);
  if (::chmod((folder + "/plan").c_str(), 0755) != 0) return fail_errno(folder);
  for (const char* name : {"/replicas", "/requests", "/status"})
    LOAM_CHECK(make_owned_folder(folder + name, run.job_uid, run.job_gid));
  const auto gateway = runs_.tables.job(endpoint.gateway);
  if (!gateway || gateway->ended()) (void)::unlink((folder + "/status/status.json").c_str());
  return watch_status(endpoint);
}

Result<void> Services::watch_status(Endpoint& endpoint) {
  if (endpoint.inotify) return {};
  Fd inotify(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!inotify) return fail_errno("inotify");
  const std::string folder = folder_of(endpoint) + "/status";
  if (::inotify_add_watch(inotify.get(), folder.c_str(),
                          IN_MOVED_TO | IN_CLOSE_WRITE | IN_ONLYDIR) < 0)
    return fail_errno("watch of " + folder);
  endpoint.inotify = std::move(inotify);
  endpoint.watch = runs_.node.loop.watch_readable(endpoint.inotify.get(), [this, id = endpoint.id] {
    const auto found = endpoints_.find(id);
    if (found == endpoints_.end()) return;
    char buffer[4096];
    while (::read(found->second->inotify.get(), buffer, sizeof buffer) > 0) {
    }
    status_changed(id);
    if (const auto still = endpoints_.find(id); still != endpoints_.end()) {
      check_ready(*still->second);
      scale(*still->second);
    }
  });
  return {};
}

// Foreign bytes: what cannot be read is as if nothing had been said.
void Services::status_changed(std::int64_t id) {
  const auto found = endpoints_.find(id);
  if (found == endpoints_.end()) return;
  Endpoint& endpoint = *found->second;
  const auto text = read_foreign(folder_of(endpoint) + "/status", "status.json", kStatusBytesMax);
  auto status = Json::parse(text ? *text : "");
  if (!status || !status->is_object() || endpoint.moving) return;
  endpoint.status = std::move(*status);
  if (!endpoint.listened && !endpoint.status["listening"].as_string().empty()) {
    endpoint.listened = true;
    save(endpoint);
  }
}

// Ended first: whoever wants the endpoint meanwhile gets a gateway of his own.
void Services::port_taken(const Endpoint& endpoint, JobRow gateway) {
  runs_.end_job(gateway, "failed", endpoint.status["error"].as_string());
  const auto holder = std::make_shared<std::optional<PortHolder>>();
  runs_.node.loop.offload(
      [holder, listen = endpoint.listen] { *holder = port_holder(listen); },
      [this, holder, id = endpoint.id, gateway = gateway.id] {
        const auto found = endpoints_.find(id);
        if (found == endpoints_.end() || !found->second->active) return;
        const auto run = runs_.tables.run(found->second->run);
        const ProjectPtr project = run ? runs_.project_of(*run) : nullptr;
        if (found->second->gateway == gateway && project)
          give_up(*found->second, taken_text(*run, *project, *holder) +
                                      "; end it or choose another `endpoint:`");
      });
}

void Services::look_at_port(const RunRow& run) {
  const auto jobs = runs_.tables.jobs_of(run.id);
  const auto has = [&](const char* kind) {
    return std::any_of(jobs.begin(), jobs.end(),
                       [&](const JobRow& job) { return job.kind == kind && !job.ended(); });
  };
  const ProjectPtr project = runs_.project_of(run);
  if (!project || !has("replica") || !has("step")) return;
  for (const auto& [id, endpoint] : endpoints_)  // our own: it is to be replaced
    if (endpoint->active && endpoint->uid == run.uid && endpoint->project == run.project &&
        endpoint->listen == project->endpoint)
      return;
  const auto holder = std::make_shared<std::optional<PortHolder>>();
  runs_.node.loop.offload(
      [holder, listen = project->endpoint] { *holder = port_holder(listen); },
      [this, holder, project, id = run.id] {
        const auto now = runs_.tables.run(id);
        if (!now || now->state != "running" || !*holder || !(*holder)->listens) return;
        runs_.note(id, taken_text(*now, *project, *holder) +
                           "; end it before the services start, or choose another `endpoint:`");
      });
}

std::string Services::taken_text(const RunRow& run, const spec::Project& project,
                                 const std::optional<PortHolder>& holder) {
  const std::string& listen = project.endpoint;
  std::string text = "endpoint: port " + listen.substr(listen.rfind(':') + 1) + " is in use";
  if (project.endpoint_place.line > 0)
    text = run.file + ":" + std::to_string(project.endpoint_place.line) + ":" +
           std::to_string(project.endpoint_place.column) + ": " + text;
  for (const auto& [id, other] : endpoints_)
    if (other->active && other->listened && other->listen == listen && other->uid == run.uid &&
        other->project != run.project)
      return text + " by project '" + other->project + "' (run " + std::to_string(other->run) +
             ", which `loam down " + other->project + "` ends)";
  // Of other users' processes the system's node tells the user alone. A user's own node sees no
  // further, from its user namespace, than that: but he can look himself.
  const bool may_name = holder && (runs_.node.context.identity.rootless || run.uid == 0 ||
                                   holder->uid == run.uid || holder->uid == run.job_uid);
  if (holder) text += " by " + holder_text(*holder, may_name);
  if (may_name && holder->pid == 0 && holder->uid == run.uid) text += ", which `ss -ltnp` names";
  return text;
}

// A gateway that never listened (its port is taken): the run has failed, and nothing of it stays;
// what an earlier run served at another address is served there again.
void Services::give_up(Endpoint& endpoint, const std::string& error) {
  auto run = runs_.tables.run(endpoint.run);
  if (auto gateway = runs_.tables.job(endpoint.gateway);
      gateway && !gateway->ended() && !runs_.attempt_alive(gateway->id))
    runs_.end_job(*gateway, "failed", error);
  for (const auto& [id, replica] : endpoint.replicas) {
    service_event(endpoint, replica.service, "failed", error);
    break;
  }
  const bool given_back = give_back(endpoint, "could not open its endpoint");
  if (run && (run->state == "running" || run->state == "serving"))
    runs_.set_run_state(*run, "failed", printable(error));
  if (!given_back) close(endpoint, "the endpoint could not be opened");
}

// The jobs end in their own time; the row says that nothing is to come back.
void Services::close(Endpoint& endpoint, const std::string& why) {
  endpoint.active = false;
  endpoint.scale_timer = {};
  endpoint.watch.reset();
  endpoint.inotify.reset();
  endpoint.status = Json();
  endpoint.ready.clear();
  save(endpoint);
  std::vector<JobId> jobs{endpoint.gateway};
  for (const auto& [id, replica] : endpoint.replicas) jobs.push_back(id);
  for (const JobId id : jobs) {
    pauses_.erase(id);
    if (const auto job = runs_.tables.job(id)) runs_.cancel_job(*job, why);
  }
  end_parked(endpoint.run, why);
  end_replaced(endpoint, why);
}

void Services::left(RunId run, const std::string& why) {
  for (auto& [id, endpoint] : endpoints_)
    if (endpoint->run == run && endpoint->active && !give_back(*endpoint, "was cancelled"))
      close(*endpoint, why);
}

std::vector<JobRow> Services::down(const Caller& caller, const std::string& folder,
                                   const std::string& name) {
  // By its name a project is the caller's own, root's too; the folder says whose an admin means.
  const auto may = [&](const RunRow& run) {
    return folder.empty() ? run.uid == caller.uid : runs_.may_act(caller, run);
  };
  std::vector<JobRow> stopped;
  for (auto& [id, endpoint] : endpoints_) {
    const auto run = runs_.tables.run(endpoint->run);
    const bool meant = !folder.empty() ? endpoint->folder == folder : endpoint->project == name;
    if (!endpoint->active || !meant || !run || !may(*run)) continue;
    if (const auto gateway = runs_.tables.job(endpoint->gateway); gateway && !gateway->ended())
      stopped.push_back(*gateway);
    for (const auto& [job, replica] : endpoint->replicas)
      if (const auto row = runs_.tables.job(job); row && !row->ended()) stopped.push_back(*row);
    close(*endpoint, "stopped by loam down");
    if (auto serving = runs_.tables.run(endpoint->run);
        serving && (serving->state == "serving" || serving->state == "running"))
      runs_.set_run_state(*serving, "succeeded");
  }
  // Replicas that wait for their steps are not to start either.
  for (const RunRow& run : runs_.tables.runs("state IN ('preparing','running')")) {
    const bool meant = !folder.empty() ? run.folder == folder : run.project == name;
    if (!meant || !may(run)) continue;
    for (const JobRow& job : runs_.tables.jobs_of(run.id)) {
      if (job.kind != "replica" || job.ended()) continue;
      stopped.push_back(job);
      runs_.cancel_job(job, "stopped by loam down");
    }
  }
  return stopped;
}

std::vector<std::string> Services::request_logs(const Caller& caller) const {
  std::vector<std::string> folders;
  for (const Row& row : runs_.node.db.query("SELECT id, uid FROM endpoints ORDER BY id")) {
    if (row.integer(1) == caller.uid || is_root(runs_.node.context.identity, caller))
      folders.push_back(runs_.node.context.paths.endpoints + "/" + std::to_string(row.integer(0)) +
                        "/requests");
  }
  return folders;
}

bool Services::serves(std::uint32_t uid, const std::string& model, std::int64_t version) {
  for (const auto& [id, endpoint] : endpoints_) {
    if (endpoint->uid != uid || !endpoint->active) continue;
    for (const auto& [job, replica] : endpoint->replicas)
      if (const auto row = runs_.tables.job(job);
          row && row->model == model && row->version == version)
        return true;
  }
  return false;
}

}  // namespace loam::node
