// How many replicas a service has, where its file leaves that to the load (`replicas: {min, max}`).
//
//   gateway: wanted, spare ─ status.json ─▶ scale ─▶ parked job ─ queued like others ─▶ it serves
//                                             └─▶ spare: told to make room ─ exit ─▶ parked again
//
// A job for each replica up to max is there from the submission on; those that are not needed are
// parked: in the database, not in the queue. So the rows alone say after a restart how many there
// were. What the gateway says is foreign: it counts within min and max of its own services, and at
// most once in kScaleEvery. While a run takes an earlier one's place the number stays, but for what
// has to make room.
#include <algorithm>

#include "base/clock.h"
#include "base/crash_point.h"
#include "node/services.h"

namespace loam::node {
namespace {

constexpr std::chrono::milliseconds kScaleEvery{1000};
constexpr const char* kParked = "starts when requests wait for it";
constexpr const char* kGivenBack = "its service can do without it";

std::int64_t now_ms() { return steady_ns() / 1'000'000; }

std::string count_text(std::size_t replicas) {
  return std::to_string(replicas) + (replicas == 1 ? " replica" : " replicas");
}

}  // namespace

bool Services::is_elastic(const Endpoint& endpoint, const spec::Service& service) const {
  const auto run = runs_.tables.run(endpoint.run);
  return service.replicas.min < service.replicas.max && run && run->state == "serving" &&
         std::none_of(endpoint.replicas.begin(), endpoint.replicas.end(), [&](const auto& replica) {
           return replica.second.service == service.name && replica.second.retiring;
         });
}

bool Services::is_live(const Replica& replica, const JobRow& job) const {
  return !replica.retiring && !job.ended() && !job.cancel && job.preempt.empty();
}

std::optional<api::ScalePlan> Services::scale_plan(const Endpoint& endpoint,
                                                   const spec::Service& service) {
  if (!is_elastic(endpoint, service)) return std::nullopt;
  int live = 0;
  for (const auto& [id, replica] : endpoint.replicas)
    if (const auto job = runs_.tables.job(id); job && replica.service == service.name)
      live += is_live(replica, *job) ? 1 : 0;
  const auto& [min, max] = service.replicas;
  return api::ScalePlan{.min = static_cast<std::uint32_t>(min),
                        .max = static_cast<std::uint32_t>(max),
                        .wanted = static_cast<std::uint32_t>(std::clamp(live, min, max))};
}

ScaleMoves Services::moves_for(const Endpoint& endpoint, const spec::Service& service) {
  const auto jobs = runs_.tables.jobs("run=? AND kind='replica' AND service=? ORDER BY id",
                                      {endpoint.run, service.name});
  const std::string version = jobs.empty() ? "" : std::to_string(jobs.front().version);
  const auto& models = endpoint.status["models"].as_array();
  const auto said = std::find_if(models.begin(), models.end(), [&](const Json& model) {
    return model["name"].as_string() == service.name && model["version"].as_string() == version;
  });
  // A gateway that has just started, or has not seen yet that it has the choice.
  if (said == models.end() || !(*said)["wanted"].is_int()) return {};
  const auto spares = (*said)["spare"].as_strings();
  const std::set<std::string> spare(spares.begin(), spares.end());
  const std::set<std::string> ready = ready_replicas(endpoint, service.name);
  std::vector<StandingReplica> standing;
  for (const JobRow& job : jobs) {
    if (job.parked()) standing.push_back({job.id, ReplicaStand::parked});
    const auto found = endpoint.replicas.find(job.id);
    if (found == endpoint.replicas.end() || !is_live(found->second, job)) continue;
    const Replica& replica = found->second;
    const ReplicaStand stand = !runs_.attempt_alive(job.id)      ? ReplicaStand::waits
                               : !ready.contains(replica.folder) ? ReplicaStand::starts
                               : spare.contains(replica.folder)  ? ReplicaStand::spare
                                                                 : ReplicaStand::serves;
    standing.push_back({job.id, stand});
  }
  return scale_moves(standing, {service.replicas.min, service.replicas.max},
                     (*said)["wanted"].as_int());
}

void Services::scale(Endpoint& endpoint) {
  const auto run = runs_.tables.run(endpoint.run);
  const ProjectPtr project = run ? runs_.project_of(*run) : nullptr;
  if (!project || !endpoint.active) return;
  for (const spec::Service& service : project->services) {
    if (!is_elastic(endpoint, service)) continue;
    const ScaleMoves moves = moves_for(endpoint, service);
    if (moves.start.empty() && moves.end.empty()) continue;
    const std::int64_t due_ms = endpoint.scaled_ms[service.name] + kScaleEvery.count();
    if (const std::int64_t wait_ms = due_ms - now_ms(); wait_ms > 0) {
      endpoint.scale_timer =
          runs_.node.loop.after(std::chrono::milliseconds(wait_ms), [this, id = endpoint.id] {
            if (const auto found = endpoints_.find(id); found != endpoints_.end())
              scale(*found->second);
          });
      continue;
    }
    endpoint.scaled_ms[service.name] = now_ms();
    make_moves(endpoint, service, moves);
  }
}

void Services::make_moves(Endpoint& endpoint, const spec::Service& service,
                          const ScaleMoves& moves) {
  for (const JobId id : moves.end)
    if (auto job = runs_.tables.job(id)) stand_down(endpoint, std::move(*job));
  for (const JobId id : moves.start)
    if (auto job = runs_.tables.job(id)) start_parked(endpoint, std::move(*job));
  plan_changed(endpoint);
  const std::string change = !moves.start.empty()
                                 ? count_text(moves.start.size()) + " more: requests wait"
                                 : count_text(moves.end.size()) + " less: the others suffice";
  runs_.note(endpoint.run, "service " + service.name + ": " + change);
}

void Services::start_parked(Endpoint& endpoint, JobRow job) {
  endpoint.replicas[job.id] = Replica{.service = job.service};
  job.why.clear();
  runs_.enqueue(job);
}

// What runs ends as a preempted job does, by a word that a node which starts again repeats.
void Services::stand_down(Endpoint& endpoint, JobRow job) {
  const bool alive = runs_.attempt_alive(job.id);
  if (!alive && !runs_.starting.contains(job.id)) return park(endpoint, std::move(job));
  job.preempt = kGivenBack;
  runs_.tables.save(job);
  if (!alive) return;  // start_planned sees it
  runs_.node.db.after_commit([this, id = runs_.last_attempt(job.id)->id] {
    LOAM_CRASH_POINT("node.give_back_committed");
    runs_.node.supervisor.stop(id, api::Outcome::preempted);
  });
}

void Services::given_back(const JobRow& job) {
  Endpoint* endpoint = of_job(job);
  if (endpoint == nullptr) return;
  park(*endpoint, job);
  if (!runs_.resumed) return;
  plan_changed(*endpoint);
  scale(*endpoint);  // it may be wanted again
}

void Services::park(Endpoint& endpoint, JobRow job) {
  endpoint.replicas.erase(job.id);
  pauses_.erase(job.id);
  job.state = "parked";
  job.why = kParked;
  job.error.clear();
  job.preempt.clear();
  runs_.tables.save(job);
  runs_.node.queue.release(job.id);
  runs_.node.shared_cpus.follow(runs_.node.queue.state());
}

// Old and new that not even an empty machine holds together would wait for each other for ever.
void Services::make_room(Endpoint& endpoint) {
  const auto run = runs_.tables.run(endpoint.run);
  sched::Claim together{.user = run ? run->user : "", .kind = sched::ClaimKind::service};
  std::map<std::string, std::vector<JobRow>> retiring;
  for (const auto& [id, replica] : endpoint.replicas) {
    const auto row = runs_.tables.job(id);
    if (!row) continue;
    together.rank.cpu_milli += static_cast<std::uint64_t>(row->cpu_milli);
    together.rank.memory_bytes += static_cast<std::uint64_t>(row->memory_bytes);
    if (replica.retiring) retiring[replica.service].push_back(*row);
  }
  const auto fits = [&] { return runs_.node.queue.refusal(together).empty(); };
  if (retiring.empty() || fits()) return;
  const std::string why = "makes room for run " + std::to_string(endpoint.run);
  for (const auto& [service, jobs] : retiring)  // what the load alone asked for is the first to go
    for (std::size_t i = static_cast<std::size_t>(replicas_of(jobs.front()).min); i < jobs.size();
         ++i) {
      together.rank.cpu_milli -= static_cast<std::uint64_t>(jobs[i].cpu_milli);
      together.rank.memory_bytes -= static_cast<std::uint64_t>(jobs[i].memory_bytes);
      drop(endpoint, jobs[i], why);
    }
  if (fits()) return;
  runs_.note(endpoint.run,
             "this machine has no room for old and new replicas at once: the old ones stop first");
  for (const auto& [service, jobs] : retiring) drop_retiring(endpoint, service, why);
}

spec::Replicas Services::replicas_of(const JobRow& job) {
  const auto run = runs_.tables.run(job.run);
  const spec::Service* service = run ? runs_.service_of(*run, job) : nullptr;
  return service == nullptr ? spec::Replicas{} : service->replicas;
}

void Services::end_parked(RunId run, const std::string& why) {
  for (JobRow& job : runs_.tables.jobs("run=? AND kind='replica' AND state='parked'", {run})) {
    job.why = why;
    runs_.end_job(job, "cancelled", "", Json::object({{"why", why}}));
  }
}

}  // namespace loam::node
