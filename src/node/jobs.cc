// A job's way from blocked to running: what it waits for, whether it must run at all, its claim,
// its plan.
//
//   blocked ─ upstream done ─ stale? ─▶ queued ─ granted ─ plan (worker) ─▶ running ─ on_exit ─▶
//   finish.cc
#include <algorithm>

#include "base/clock.h"
#include "base/files.h"
#include "base/process.h"
#include "base/text.h"
#include "node/runs_impl.h"
#include "node/services.h"
#include "node/staleness.h"

namespace loam::node {
namespace {

const JobRow* job_named(const std::vector<JobRow>& jobs, const std::string& step) {
  for (const JobRow& job : jobs)
    if (job.kind == "step" && job.name == step) return &job;
  return nullptr;
}

bool is_done(const JobRow& job) { return job.state == "succeeded" || job.state == "unchanged"; }

// cp keeps whiteouts and their attributes; the source is an ended attempt's, so nobody changes it
// meanwhile.
Result<void> copy_kept_files(const std::string& from, const std::string& to) {
  if (!path_exists(from)) return {};
  LOAM_CHECK(remove_tree(to));
  SpawnOptions options;
  options.argv = {"cp", "-a", "--reflink=auto", "--", from, to};
  const Output output = LOAM_TRY(run_collect(std::move(options)));
  if (!output.ok())
    return fail(ErrorCode::io, "copy of the kept files: " + printable(output.standard_error));
  return {};
}

}  // namespace

void Runs::Impl::step_event(const JobRow& job, Json data) {
  if (job.kind == "replica" || job.kind == "gateway") return;  // they have events of their own
  if (job.kind == "lane") return;                              // its tasks have
  data.set("step", job.name);
  data.set("target", target_text(job));
  if (!data.has("state")) data.set("state", job.shown_state());
  events.add(job.run, "step", data);
}

void Runs::Impl::consider(RunId id) {
  auto run = tables.run(id);
  if (!run || run->state != "running" || !resumed) return;
  const auto first = tables.parts_of(id);
  for (const JobRow& listed : first) {
    auto job = tables.job(listed.id);
    if (!job || job->state != "blocked") continue;
    if (job->kind == "step") consider_step(*run, *job, tables.parts_of(id));
    if (job->kind == "command" || job->kind == "shell") enqueue(*job);
  }
  const auto jobs = tables.parts_of(id);
  const bool steps_done = std::all_of(jobs.begin(), jobs.end(), [](const JobRow& job) {
    return job.kind != "step" || is_done(job);
  });
  const bool waits_to_serve = std::any_of(jobs.begin(), jobs.end(), [](const JobRow& job) {
    return job.kind == "replica" && job.state == "blocked" && job.endpoint == 0;
  });
  if (steps_done && waits_to_serve) services->begin(*run);
  settle(id);
}

// Of a sweep's tasks only the last one's end changes anything for the rest of the run.
void Runs::Impl::consider_after(const JobRow& ended) {
  const bool others_go_on =
      ended.sweep != 0 && tables.count("id=? AND " + std::string(kOpenJob), {ended.sweep}) > 0;
  if (!others_go_on) consider(ended.run);
}

void Runs::Impl::consider_step(RunRow& run, JobRow job, const std::vector<JobRow>& all) {
  const ProjectPtr project = project_of(run);
  const spec::Step* step = step_of(run, job);
  if (step == nullptr)
    return end_job(job, "failed", run.file + ": can no longer be read; submit it again");
  StepInputs inputs;
  for (const std::string& name : step->after) {
    const JobRow* upstream = job_named(all, name);
    if (upstream == nullptr || (upstream->ended() && !is_done(*upstream)))
      return end_job(job, "skipped", "",
                     Json::object({{"why", "step '" + name + "' did not succeed"}}));
    if (!is_done(*upstream)) return;
    inputs.upstream.merge(output_trees(*upstream));
  }
  inputs.env = job.env;
  for (const spec::DataSource& source : project->data)
    inputs.data[source.name] = run.data[source.name]["digest"].as_string();
  inputs.snapshot = code.digest({run.snapshot, run.file}, step->code);
  job.key = step_key(*project, *step, inputs);
  if (waits_for_same_step(run, job)) return;
  job.why.clear();
  const Verdict verdict = judge_step(run, *step, job.key);
  const auto& last = verdict.last;
  if (verdict.stands) {
    job.source = last->id;
    job.model = last->model;
    job.version = last->version;
    job.tree = last->tree;
    job.record = last->record;
    Json data = Json::object({{"reason", "unchanged since run " + std::to_string(last->run)}});
    if (!last->model.empty())
      data.set("model_version", last->model + "@" + std::to_string(last->version));
    return end_job(job, "unchanged", "", std::move(data));
  }
  const char* reason = !last ? "new" : verdict.changed.empty() ? "forced" : "changed";
  tables.save(job);
  step_event(job,
             Json::object(
                 {{"state", "queued"}, {"reason", reason}, {"changed", Json::array_of(verdict.changed)}}));
  if (!step->sweep.empty()) return begin_sweep(run, job, *step);
  enqueue(job);
}

Runs::Impl::Verdict Runs::Impl::judge_step(const RunRow& run, const spec::Step& step,
                                           const Json& key) {
  Verdict verdict{.last = tables.last_success(run, step.name), .changed = {}};
  const auto& last = verdict.last;
  if (!last) return verdict;
  verdict.changed = changes(last->key, key);
  if (!last->model.empty() && !models.find(run.uid, {last->model, last->version}))
    verdict.changed.push_back("output: " + last->model + "@" + std::to_string(last->version) +
                              " was removed");
  verdict.stands = verdict.changed.empty() && !run.options["force"].as_bool();
  const auto& changed = verdict.changed;
  if (std::find(changed.begin(), changed.end(), "snapshot") == changed.end()) return verdict;
  if (const auto before = tables.run(last->run))
    verdict.changed = with_paths(
        std::move(verdict.changed),
        code.changed(before->snapshot, {run.snapshot, run.file}, step.code));
  return verdict;
}

void Runs::Impl::on_granted(JobId id) { start_attempt(id); }

StartInputs Runs::Impl::gather(const RunRow& run, const JobRow& job) {
  StartInputs inputs;
  inputs.run = run;
  inputs.job = job;
  inputs.project = project_of(run);
  const auto last = last_attempt(job.id);
  inputs.number = last ? last->number + 1 : 1;
  if (const auto env = job.env.empty() ? std::nullopt : envs.find(job.env)) {
    inputs.env_base = env->section["base"].as_string();
    inputs.env_tree = env->tree;
  }
  // A shell sees what its attempt saw.
  const auto shown = job.kind == "shell" ? tables.job(job.source) : std::nullopt;
  const JobRow& seen = shown ? *shown : job;
  const auto seen_run = shown ? tables.run(shown->run) : std::optional<RunRow>(run);
  if (const spec::Step* step =
          seen_run && (seen.kind == "step" || seen.kind == "lane") ? step_of(*seen_run, seen)
                                                                    : nullptr) {
    const auto all = tables.parts_of(seen.run);
    for (const std::string& name : step->after) {
      const JobRow* upstream = job_named(all, name);
      const spec::Step* made_by = upstream != nullptr ? step_of(*seen_run, *upstream) : nullptr;
      if (made_by != nullptr && made_by->output && !upstream->tree.empty())
        inputs.upstream.emplace_back(made_by->output->path, upstream->tree);
      if (made_by != nullptr && made_by->output)
        for (const JobRow& task : tasks_of(*upstream))
          if (!task.tree.empty())
            inputs.upstream.emplace_back(made_by->output->path + "/" + std::to_string(task.task),
                                         task.tree);
    }
  }
  if (shown) {
    if (const auto place = checkpoint_of(*seen_run, seen)) {
      inputs.shown_checkpoints = place->folder + "/files";
      inputs.shown_checkpoint_path = step_of(*seen_run, seen)->checkpoint->path;
    }
    inputs.shown_upper = work_of(*shown, static_cast<int>(job.source_attempt)) + "/project/upper";
  } else {
    inputs.checkpoint = checkpoint_of(run, job);
  }
  if (job.kind == "replica" || job.kind == "gateway") services->gather(inputs);
  inputs.grant = grant_of(job);
  inputs.device_probe = node.devices.probe();
  if (const sched::Placement* placement = node.queue.placement(job.id);
      placement != nullptr && !placement->ranks.empty())
    inputs.placement = to_json(*placement);
  return inputs;
}

// On a worker.
Result<api::AttemptPlan> Runs::Impl::make_plan(StartInputs& inputs) const {
  api::AttemptPlan plan = LOAM_TRY(plan_of_kind(inputs));
  inputs.trouble = give_devices(inputs.grant, inputs.device_probe, plan);
  return plan;
}

// Trees are shown or copied, the home is made, mounts are asked for their owners.
Result<api::AttemptPlan> Runs::Impl::plan_of_kind(StartInputs& inputs) const {
  const RunRow& run = inputs.run;
  std::string problem;
  PlanInputs plan;
  plan.run = &run;
  plan.job = &inputs.job;
  plan.project = inputs.project.get();
  plan.number = inputs.number;
  plan.work = work_of(inputs.job, inputs.number);
  plan.secrets_file = secrets.file_of_job(inputs.job.sweep != 0 ? inputs.job.sweep : inputs.job.id);
  LOAM_CHECK(make_home(node.context.paths.homes, run.job_uid, run.job_gid, run.project));
  if (inputs.job.kind == "gateway") return plan_gateway(facts, plan, inputs.endpoint_folder);
  plan.snapshot = tree_view(run.snapshot, run, &problem);
  if (problem.empty() && !inputs.env_tree.empty()) {
    const Digest tree = LOAM_TRY(Digest::parse(inputs.env_tree));
    if (!node.store.has_tree(tree))
      return fail(ErrorCode::not_found, "the environment's tree is no longer in the store");
    (inputs.env_base == "host" ? plan.pip_tree : plan.env_tree) = node.store.tree_path(tree);
    plan.env_has_certificates =
        path_exists(node.store.tree_path(tree) + "/etc/ssl/certs/ca-certificates.crt");
  }
  for (const auto& [path, tree] : inputs.upstream)
    if (problem.empty()) plan.upstream.push_back({path, tree_view(tree, run, &problem)});
  if (!inputs.shown_checkpoints.empty() && path_exists(inputs.shown_checkpoints))
    plan.upstream.push_back({inputs.shown_checkpoint_path, {inputs.shown_checkpoints}});
  TreeView model;
  if (problem.empty() && !inputs.model_tree.empty())
    model = tree_view(inputs.model_tree, run, &problem);
  if (!problem.empty()) return fail(ErrorCode::not_found, problem);
  if (inputs.project)
    for (const spec::Mount& mount : inputs.project->mounts) {
      if (mount.mode != spec::MountMode::rw || node.context.identity.rootless) continue;
      // A folder of root's shows as the job's only where root itself asks, for a project of its own.
      if (run.uid != 0 || run.reader_uid != 0) continue;
      auto owner = node.helpers.call(reader_of(run), {"__owner", mount.from});
      if (!owner) return in_context("mounts", owner.error());
      if (*owner != "0") continue;
      if (!idmap)
        return fail(ErrorCode::unavailable, "mounts: " + mount.from +
                                                " belongs to root and this host has no idmapped "
                                                "mounts; give the folder to " +
                                                run.job_user + ", or mount it ro");
      plan.root_owned_mounts.push_back(mount.from);
    }
  if (inputs.job.kind == "command" || inputs.job.kind == "shell") return plan_command(facts, plan);
  if (!inputs.project)
    return fail(ErrorCode::invalid, run.file + ": can no longer be read; submit it again");
  if (inputs.job.kind == "replica") {
    for (const spec::Service& service : inputs.project->services)
      if (service.name == inputs.job.service)
        return plan_replica(facts, plan, service, model, inputs.channel_folder);
    return fail(ErrorCode::not_found, "no service '" + inputs.job.service + "'");
  }
  for (const spec::Step& step : inputs.project->steps)
    if (step.name == inputs.job.step_name()) {
      if (inputs.checkpoint) LOAM_CHECK(resume_checkpoint(inputs, plan));
      return plan_step(facts, plan, step);
    }
  return fail(ErrorCode::not_found, "no step '" + inputs.job.name + "'");
}

void Runs::Impl::start_attempt(JobId id) {
  auto job = tables.job(id);
  auto run = job ? tables.run(job->run) : std::nullopt;
  if (!run || !job->in_queue() || job->cancel || !resumed) return;
  if (attempt_alive(id) || starting.contains(id)) return;
  if (job->kind == "lane" && !next_waiting(job->sweep)) return end_job(*job, "succeeded", "");
  starting.insert(id);
  auto inputs = std::make_shared<StartInputs>(gather(*run, *job));
  // Without copies and without mounts to ask about, a plan is a few looks at the disk: not worth a
  // detour over a worker, and the attempt comes into the transaction that granted the job.
  // Devices are looked at, which may wait for another look to end.
  if (idmap && job->kind == "command" && !inputs->project && inputs->grant.units.empty())
    return start_planned(*inputs, make_plan(*inputs));
  auto plan = std::make_shared<Result<api::AttemptPlan>>(api::AttemptPlan{});
  node.loop.offload([this, inputs, plan] { *plan = make_plan(*inputs); },
                    [this, inputs, plan] { start_planned(*inputs, std::move(*plan)); });
}

void Runs::Impl::start_planned(const StartInputs& inputs, Result<api::AttemptPlan> plan) {
  starting.erase(inputs.job.id);
  auto job = tables.job(inputs.job.id);
  if (!job || !job->in_queue()) return;  // cancelled meanwhile
  if (!job->preempt.empty())
    return job->kind == "replica" ? services->given_back(*job) : requeue_preempted(*job);
  if (!plan) {
    if (job->kind == "replica" || job->kind == "gateway")
      return services->start_failed(*job, plan.error().text);
    end_job(*job, "failed", plan.error().text);
    return consider(job->run);
  }
  if (inputs.trouble) return try_elsewhere(*job, *inputs.trouble);
  job->state = "running";
  for (const std::string& text : inputs.notes) note(job->run, target_text(*job) + ": " + text);
  job->checkpoint = inputs.settled.name;
  job->why.clear();
  job->error.clear();  // of an earlier attempt
  tables.save(*job);
  const auto prepare_folder = [work = work_of(*job, inputs.number), uid = plan->uid,
                               gid = plan->gid, channel = inputs.channel_folder,
                               shown = inputs.shown_upper](const std::string&) -> Result<void> {
    LOAM_CHECK(make_work_folders(work, uid, gid));
    if (!shown.empty()) LOAM_CHECK(copy_kept_files(shown, work + "/project/upper"));
    if (!channel.empty()) return make_owned_folder(channel, uid, gid);
    return {};
  };
  const AttemptId attempt = start_with_devices(inputs, std::move(*plan), prepare_folder);
  if (job->kind == "replica" || job->kind == "gateway") services->started(*job, attempt, inputs);
  attempt_known(job->id);
}

// After the commit, so that who asks again finds what the transaction says.
void Runs::Impl::attempt_known(JobId job) {
  const auto [first, last] = attempt_waits.equal_range(job);
  std::vector<std::weak_ptr<std::function<void()>>> waits;
  for (auto wait = first; wait != last; ++wait) waits.push_back(wait->second);
  attempt_waits.erase(first, last);
  for (const auto& weak : waits)
    node.db.after_commit([weak] {
      if (const auto again = weak.lock()) (*again)();
    });
}

void Runs::Impl::end_job(JobRow& job, const std::string& state, const std::string& error,
                         Json data) {
  job.state = state;
  job.error = printable(error);
  job.ended_ms = wall_ms();
  tables.save(job);
  // Before the event: whoever hears that the job has ended finds nothing of its secrets.
  node.db.after_commit([this, id = job.id] { secrets.forget_job(id); });
  pauses.erase(job.id);
  node.queue.release(job.id);
  node.shared_cpus.follow(node.queue.state());
  data.set("state", state);
  if (!error.empty()) data.set("why", printable(error));
  step_event(job, std::move(data));
  attempt_known(job.id);
  wake_same_steps(job);
  if (job.kind == "lane") lane_over(job);
  if (job.sweep != 0 && job.kind == "step") task_ended(job);
  for (Idle& wait : idle) wait.jobs.erase(job.id);
  const auto over = std::stable_partition(idle.begin(), idle.end(),
                                          [](const Idle& wait) { return !wait.jobs.empty(); });
  std::vector<std::function<void()>> done;
  for (auto wait = over; wait != idle.end(); ++wait) done.push_back(std::move(wait->done));
  idle.erase(over, idle.end());
  for (auto& action : done) node.db.after_commit(std::move(action));
}

// A run is over when its steps are; where it serves, when its services are ready (services.cc says
// so).
void Runs::Impl::settle(RunId id) {
  auto run = tables.run(id);
  if (!run || run->state != "running") return;
  std::string failure;
  bool cancelled = false, serves = false, has_replicas = false;
  const auto jobs = tables.parts_of(id);
  for (const JobRow& job : jobs) {
    if (job.kind == "replica") {
      has_replicas = true;
      serves = serves || (!job.ended() && !job.parked());
    } else if (job.kind != "gateway") {
      if (!job.ended()) return;
      if (job.state == "failed" && failure.empty()) failure = job.name + ": " + job.error;
      cancelled = cancelled || job.state == "cancelled";
    }
  }
  if (!failure.empty() || cancelled) {
    for (JobRow job : jobs)
      if (job.kind == "replica" && job.state == "blocked")
        end_job(job, "skipped", "", Json::object({{"why", "a step did not succeed"}}));
    return set_run_state(*run, failure.empty() ? "cancelled" : "failed", failure);
  }
  if (serves) return;
  if (has_replicas) services->left(id, "cancelled");
  set_run_state(*run, has_replicas ? "cancelled" : "succeeded");
}

}  // namespace loam::node
