#include "node/runs.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "base/text.h"
#include "node/findings.h"
#include "node/runs_impl.h"
#include "node/services.h"

namespace loam::node {
namespace {

std::optional<std::int64_t> number_of(const std::string& text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 1) return std::nullopt;
  return number;
}

}  // namespace

Runs::Runs(Node& node) : impl_(std::make_unique<Impl>(node)) {}
Runs::~Runs() = default;

void Runs::add_routes(Routes& routes) {
  impl_->run_routes(routes);
  impl_->preempt_routes(routes);
  impl_->hold_routes(routes);
  impl_->why_routes(routes);
  impl_->usage_routes(routes);
  impl_->model_routes(routes);
  impl_->file_routes(routes);
  impl_->trace_routes(routes);
  impl_->store_routes(routes);
}

void Runs::on_running(AttemptId attempt) { impl_->on_running(attempt); }
void Runs::on_exit(AttemptId attempt, const api::ExitRecord& record, bool reboot) {
  impl_->on_exit(attempt, record, reboot);
}
void Runs::on_returned(AttemptId lane, const std::vector<std::pair<AttemptId, JobId>>& tasks) {
  impl_->tasks_returned(lane, tasks);
}
void Runs::on_granted(JobId job) { impl_->on_granted(job); }
void Runs::on_preempt(JobId victim, JobId beneficiary) { impl_->on_preempt(victim, beneficiary); }
void Runs::resume() { impl_->resume(); }
Result<std::shared_ptr<void>> Runs::hold_collection() { return impl_->hold_collection(); }

Result<AttemptId> Runs::resolve_attempt(const Caller& caller, const std::string& target, std::string* whole) {
  Target found;
  const AttemptView attempt = LOAM_TRY(impl_->find_attempt(caller, target, &found));
  if (whole != nullptr) *whole = Impl::target_text(*found.job) + "/" + std::to_string(attempt.number);
  return attempt.id;
}

bool Runs::await_attempt(const Caller& caller, const std::string& target, const Again& again) {
  const auto found = impl_->find_target(caller, target);
  if (!found || !found->job || found->job->ended()) return false;
  if (found->attempt && found->attempt->state != "ended") return false;
  auto& waits = impl_->attempt_waits;
  std::erase_if(waits, [](const auto& wait) { return wait.second.expired(); });
  waits.emplace(found->job->id, again);
  return true;
}

bool Runs::visible(const Caller& caller, JobId job) {
  const auto row = impl_->tables.job(job);
  if (!row) return false;
  const auto run = impl_->tables.run(row->run);
  return run && impl_->may_read(caller, *run);
}

Json Runs::who(JobId job) const { return impl_->who(job); }

Json Runs::Impl::who(JobId job) {
  const auto row = tables.job(job);
  const auto run = row ? tables.run(row->run) : std::nullopt;
  if (!run) return nullptr;
  return Json::object({{"target", target_text(*row)}, {"user", run->user}});
}

void Runs::stop_all(std::function<void()> done) {
  impl_->closing = true;  // a snapshot that is being taken would become a job after the last look
  std::vector<JobRow> stopped;
  for (RunRow& run : impl_->tables.runs("state IN ('preparing','running','serving')")) {
    const auto jobs = impl_->tables.jobs_of(run.id);
    impl_->cancel_run(run, "the node stops");
    for (const JobRow& job : jobs)
      if (!job.ended()) stopped.push_back(job);
  }
  impl_->when_ended(stopped,
                    [this, done = std::move(done)] { impl_->when_groups_gone(done, steady_ns()); });
}

Runs::Counts Runs::counts() const {
  Counts counts;
  for (const Row& row : impl_->node.db.query("SELECT state, count(*) FROM jobs WHERE tasks=0 AND "
                                             "kind<>'lane' GROUP BY state")) {
    const std::string& state = row.text(0);
    const int count = static_cast<int>(row.integer(1));
    if (state == "running" || state == "finishing") counts.running += count;
    if (state == "preparing" || state == "blocked" || state == "queued" ||
        state == "preempted")
      counts.waiting += count;
  }
  return counts;
}

Runs::Impl::Impl(Node& the_node)
    : node(the_node),
      tables(the_node.db),
      events(the_node.db),
      models(the_node.db),
      envs(the_node),
      code([&store = the_node.store](const std::string& tree) {
        const auto digest = Digest::parse(tree);
        auto listing = digest ? store.listing(*digest) : tl::unexpected(digest.error());
        return listing ? std::move(*listing) : std::vector<store::ListingEntry>{};
      }),
      usage(the_node.db),
      store_use(the_node.db),
      secrets(the_node.context.paths.secrets) {
  facts.node = &node.context;
  facts.host = read_host_files();
  facts.share_folder = program_share_folder();
  facts.program_folder = program_folder();
  const auto guard = std::find_if(node.guards.begin(), node.guards.end(),
                                  [](const auto& g) { return g.name == "idmap"; });
  idmap = !node.context.identity.rootless && guard != node.guards.end() && guard->present;
  envs.release_pin = [this](std::shared_ptr<store::Store::Pin> pin) {
    release_pin(std::move(pin));
  };
  services = std::make_unique<Services>(*this);
}

Runs::Impl::~Impl() = default;

ProjectPtr Runs::Impl::project_of(const RunRow& run) {
  if (run.text.empty()) return nullptr;
  if (const auto found = projects.find(run.id); found != projects.end()) return found->second;
  const auto digest = Digest::parse(run.snapshot);
  auto listing = digest ? node.store.listing(*digest) : std::vector<store::ListingEntry>{};
  if (!listing) listing = std::vector<store::ListingEntry>{};
  const SnapshotFolder folder(*listing, digest ? node.store.tree_path(*digest) : "", {}, true);
  auto read = spec::read_project(run.text, &folder);
  if (!read.project)
    return nullptr;  // it was read when it was submitted; a newer Loam may read it otherwise
  return projects[run.id] = std::make_shared<const spec::Project>(std::move(*read.project));
}

const spec::Step* Runs::Impl::step_of(const RunRow& run, const JobRow& job) {
  const ProjectPtr project = project_of(run);  // kept alive by `projects`
  if (!project) return nullptr;
  for (const spec::Step& step : project->steps)
    if (step.name == job.step_name()) return &step;
  return nullptr;
}

const spec::Service* Runs::Impl::service_of(const RunRow& run, const JobRow& job) {
  const ProjectPtr project = project_of(run);
  if (!project) return nullptr;
  for (const spec::Service& service : project->services)
    if (service.name == job.service) return &service;
  return nullptr;
}

bool Runs::Impl::may_read(const Caller& caller, const RunRow& run) const {
  return caller.uid == run.uid || is_root(node.context.identity, caller);
}

bool Runs::Impl::may_act(const Caller& caller, const RunRow& run) const {
  return caller.uid == run.uid || is_admin(node.context.identity, node.config.admins, caller);
}

std::string Runs::Impl::target_text(const JobRow& job) {
  return std::to_string(job.run) + "/" + job.name;
}

std::optional<AttemptView> Runs::Impl::last_attempt(JobId job) const {
  auto attempts = node.supervisor.attempts_of(job);
  if (attempts.empty()) return std::nullopt;
  return std::move(attempts.back());
}

bool Runs::Impl::attempt_alive(JobId job) const {
  const auto attempt = last_attempt(job);
  return attempt && attempt->state != "ended";
}

std::string Runs::Impl::work_of(const JobRow& job, int number) const {
  return node.context.paths.outputs + "/" + work_name(job.id, number);
}

// "train[3]" is "train.3".
std::string Runs::Impl::task_in_brackets(const std::string& name) {
  const auto bracket = name.find('[');
  if (bracket == std::string::npos || !name.ends_with(']')) return name;
  return name.substr(0, bracket) + "." + name.substr(bracket + 1, name.size() - bracket - 2);
}

// RUN[/STEP[/ATTEMPT]]; a step left out is the last failed, else the newest job with an attempt,
// else the newest.
Result<Target> Runs::Impl::find_target(const Caller& caller, const std::string& text,
                                       For purpose) {
  const auto missing = [&] {
    return fail(ErrorCode::not_found, "no such run or job: " + printable(text));
  };
  const auto parts = split(text, '/');
  const auto run_number = parts.empty() ? std::nullopt : number_of(parts[0]);
  if (!run_number || parts.size() > 3)
    return fail(ErrorCode::invalid,
                "'" + printable(text) + "': expected RUN[/STEP[/ATTEMPT]], such as 17/train");
  auto run = tables.run(*run_number);
  if (!run || !may_act(caller, *run)) return missing();
  if (purpose == For::reading && !may_read(caller, *run))
    return fail(ErrorCode::denied, "run " + parts[0] + " is " + run->user +
                                       "'s: an admin acts on it, but reads neither its output nor "
                                       "its files");
  Target target{std::move(*run), std::nullopt, std::nullopt};
  const auto jobs = tables.jobs_of(target.run.id);
  const std::string named = parts.size() > 1 ? task_in_brackets(parts[1]) : "";
  for (const JobRow& job : jobs) {
    if (parts.size() > 1 ? job.name != named : job.kind == "lane") continue;
    const auto rank = [&](const JobRow& row) {
      return row.state == "failed"                                                  ? 2
             : node.supervisor.attempts_of(row.id).empty() || row.kind == "gateway" ? 0
                                                                                    : 1;
    };
    if (!target.job || rank(job) >= rank(*target.job)) target.job = job;
  }
  if (parts.size() > 1 && !target.job) {
    std::vector<std::string> names;
    for (const JobRow& job : jobs)
      if (job.sweep == 0) names.push_back(job.name);
    return fail(ErrorCode::not_found, "run " + parts[0] + " has no job '" + printable(parts[1]) +
                                          "'; it has " + join(names, ", "));
  }
  if (!target.job) return target;
  // A sweep is acted upon as a whole; to be read is what one of its tasks has.
  if (purpose == For::reading && target.job->tasks > 0)
    if (auto task = telling_task(*target.job)) target.job = std::move(*task);
  // An unchanged step's attempts are those of the job whose result counts.
  const JobId with_attempts =
      target.job->state == "unchanged" ? target.job->source : target.job->id;
  auto attempts = node.supervisor.attempts_of(with_attempts);
  for (AttemptView& attempt : attempts)
    if (parts.size() < 3 || number_of(parts[2]) == attempt.number) target.attempt = attempt;
  if (parts.size() == 3 && !target.attempt)
    return fail(ErrorCode::not_found,
                target_text(*target.job) + " has no attempt " + printable(parts[2]));
  return target;
}

Result<AttemptView> Runs::Impl::find_attempt(const Caller& caller, const std::string& text,
                                             Target* found) {
  Target target = LOAM_TRY(find_target(caller, text));
  if (!target.attempt)
    return fail(ErrorCode::unavailable,
                printable(text) + " has not been started yet" +
                    (target.job && !target.job->error.empty() ? ": " + target.job->error : ""));
  if (found != nullptr) *found = target;
  return *target.attempt;
}

// On a worker: a copy may have to be made.
TreeView Runs::Impl::tree_view(const std::string& digest_hex, const RunRow& run,
                               std::string* error) const {
  const auto digest = Digest::parse(digest_hex);
  if (!digest || !node.store.has_tree(*digest)) {
    *error = "tree " + digest_hex.substr(0, 12) + " is no longer in the store";
    return {};
  }
  if (idmap) return {node.store.tree_path(*digest), api::Owner::root_is_user};
  auto copy = node.store.copy_for(*digest, run.job_uid, run.job_gid);
  if (copy) return {*copy, api::Owner::as_is};
  *error = copy.error().text;
  return {};
}

void Runs::Impl::set_run_state(RunRow& run, const std::string& state, const std::string& error) {
  const bool settled =
      state == "succeeded" || state == "failed" || state == "cancelled" || state == "serving";
  run.state = state;
  run.error = error;
  if (settled && state != "serving") {
    run.ended_ms = wall_ms();
    node.loop.post(
        [this, id = run.id] { projects.erase(id); });  // callers may still look at its steps
  }
  tables.save(run);
  Json data = Json::object({{"state", state}});
  if (!error.empty()) data.set("error", error);
  events.add(run.id, "run", data);
  if (settled) events.settle(run.id);
}

void Runs::Impl::note(RunId run, const std::string& text) {
  events.add(run, "note", Json::object({{"text", printable(text)}}));
}

// The cgroup of an attempt outlives its exit record by some milliseconds; a node that ends before
// it is gone would leave it to the next one.
void Runs::Impl::when_groups_gone(std::function<void()> done, std::int64_t since_ns) {
  constexpr std::chrono::milliseconds kLook{20};
  constexpr std::int64_t kLookedLongEnoughNs = 3'000'000'000;
  const auto groups = sandbox::list_cgroups(node.context.cgroups);
  const bool attempts_left = std::any_of(
      groups.begin(), groups.end(), [](const auto& name) { return number_of(name).has_value(); });
  if (!attempts_left || steady_ns() - since_ns > kLookedLongEnoughNs) {
    groups_timer.reset();
    return done();
  }
  groups_timer = node.loop.after(
      kLook, [this, done = std::move(done), since_ns] { when_groups_gone(done, since_ns); });
}

void Runs::Impl::when_ended(const std::vector<JobRow>& jobs, std::function<void()> done) {
  Idle wait;
  for (const JobRow& job : jobs)
    if (const auto now = tables.job(job.id); now && !now->ended()) wait.jobs.insert(job.id);
  wait.done = std::move(done);
  if (wait.jobs.empty()) return wait.done();
  idle.push_back(std::move(wait));
}

// Order: what runs is counted before anything waiting is granted.
void Runs::Impl::resume() {
  resumed = true;
  restore_usage();
  const auto open = tables.jobs(std::string(kOpenJob) + " ORDER BY id");
  for (const JobRow& job : open) {
    if (!attempt_alive(job.id)) continue;
    const auto run = tables.run(job.run);
    const auto alive = last_attempt(job.id);
    if (job.kind != "gateway" && run && !alive->in_lane()) adopt_placement(*run, job, *alive);
    if (job.kind == "lane" && job.state == "running") lane_runs(job, alive->id);
    if (!job.cancel && job.preempt.empty()) continue;
    node.supervisor.stop(alive->id,
                         job.cancel ? api::Outcome::cancelled : api::Outcome::preempted);
  }
  node.shared_cpus.follow(node.queue.state());
  for (JobRow job : open) {
    if (attempt_alive(job.id) || job.kind == "gateway") continue;
    if (job.kind == "replica") {  // among the jobs: behind those that it was before, it may never return
      if (services->comes_back(job)) enqueue(job);
      continue;
    }
    if (job.tasks > 0 && job.state == "running") continue;  // its tasks have the attempts
    if (job.state == "finishing" || (job.state == "running" && last_attempt(job.id))) {
      finish(job.id);
    } else if (job.cancel && shares_sandbox(job)) {  // a lane had been handed it
      end_job(job, "cancelled", "", Json::object({{"why", job.why}}));
    } else if (job.state == "running" || job.in_queue()) {
      enqueue(job, job.state == "preempted" ? "preempted" : "queued");
    }
  }
  services->resume();
  for (const RunRow& run : tables.runs("state='preparing' ORDER BY id")) prepare(run.id);
  for (const RunRow& run : tables.runs("state='running' ORDER BY id")) consider(run.id);
}

UserIds ids_of(const Caller& caller) { return {caller.uid, caller.gid, caller.groups}; }

UserIds reader_of(const RunRow& run) {
  UserIds ids{run.reader_uid, run.reader_gid, {}};
  const Json& groups = run.reader_uid == run.uid ? run.groups : run.job_groups;
  for (const Json& group : groups.as_array())
    ids.groups.push_back(static_cast<std::uint32_t>(group.as_int()));
  return ids;
}

}  // namespace loam::node
