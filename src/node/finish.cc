// From an exit record to what came of it: kept files, metrics, the run's record, the model's next
// version; what did not succeed goes on in again.cc.
//
//   on_exit (the turn that records the exit) ─ "finishing" ─▶ worker: output → store, records ─▶
//   one transaction: version and end of the job ─▶ what waited for it
//
// A node that dies in "finishing" does it again: trees and records are named by their content.
#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crash_point.h"
#include "base/files.h"
#include "base/text.h"
#include "node/attempt_finding.h"
#include "node/disk_room.h"
#include "node/findings.h"
#include "node/runs_impl.h"
#include "node/services.h"
#include "trace/records.h"

namespace loam::node {

namespace {

constexpr std::size_t kTailBytes = 256u << 10;
constexpr std::uint64_t kDiskFull = 16u << 20;

Result<store::TreeInfo> take_output(store::Store& store, const Finding& finding) {
  const std::string folder = finding.work + "/output";
  if (finding.checkpoint_is_output)
    LOAM_CHECK(move_output(finding.checkpoint->folder, finding.checkpoint->rule, folder));
  if (folder_empty(folder))
    return fail(ErrorCode::invalid,
                "the output folder " + finding.output_path +
                    " is empty: the step must write its model there (loam.output() names it)");
  const Fd fd = LOAM_TRY(open_file(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  return store.put_tree(fd.get(), {.owner_root = true});
}

Result<std::string> put(store::Store& store, Finding& finding, const Json& record) {
  const Digest digest = LOAM_TRY(store.put_record(record));
  finding.records.push_back(digest.hex());
  return digest.hex();
}

Json resources_of(const Finding& finding) {
  const api::ExitRecord& exit = finding.attempt.exit;
  Json asked = Json::object({{"cpu_milli", finding.job.cpu_milli},
                             {"memory_bytes", finding.job.memory_bytes}});
  for (const auto& [key, value] : finding.job.request.as_object()) asked.set(key, value);
  Json used = Json::object(
      {{"cpu_ns", exit.cpu_ns}, {"memory_peak_bytes", exit.memory_peak_bytes}});
  const Json& placement = finding.attempt.placement;
  if (placement["cpus"].size() > 0) used.set("cpus", placement["cpus"]);
  if (placement["devices"].size() > 0) used.set("devices", placement["devices"]);
  return Json::object({{"asked", std::move(asked)}, {"used", std::move(used)}});
}

Result<void> put_records(store::Store& store, const Node& node, Finding& finding,
                         const Json& metrics) {
  const RunRow& run = finding.run;
  trace::RunFacts facts;
  facts.run = run.id;
  facts.step = finding.job.name;
  facts.project = run.project;
  facts.user = run.user;
  facts.params = Json::object();
  facts.vars = Json::object();
  if (finding.project) {
    for (const auto& [name, value] : finding.project->vars) facts.vars.set(name, value);
    facts.secrets = finding.project->secrets;
    for (const spec::Step& step : finding.project->steps)
      if (finding.job.kind == "step" && step.name == finding.job.step_name()) {
        facts.command = step.run.text;
        facts.params = trace::with_fractions_as_strings(params_of(step, finding.job));
      }
  }
  if (facts.command.empty()) facts.command = join(run.options["command"]["argv"].as_strings(), " ");
  facts.metrics = trace::with_fractions_as_strings(metrics);
  facts.resources = resources_of(finding);
  facts.missing_guards = Json::array();
  for (const api::MissingGuard& missing : finding.attempt.exit.missing)
    facts.missing_guards.push(Json::object({{"guard", missing.guard}, {"reason", missing.reason}}));
  facts.outcome = std::string(api::outcome_name(finding.attempt.exit.outcome));
  facts.attempt = finding.attempt.number;
  facts.checkpoint = finding.job.checkpoint;
  if (!facts.checkpoint.empty()) facts.resumes = finding.job.record;
  facts.started_ms = finding.attempt.exit.started_ms;
  facts.ended_ms = finding.attempt.exit.ended_ms;
  if (!finding.env_section.is_null())
    facts.env =
        LOAM_TRY(put(store, finding, trace::env_record(finding.env_section, finding.env_tree)));
  facts.code =
      LOAM_TRY(put(store, finding,
                   trace::code_record(run.snapshot, static_cast<std::uint64_t>(run.snapshot_files),
                                      static_cast<std::uint64_t>(run.snapshot_bytes))));
  facts.host = LOAM_TRY(
      put(store, finding, trace::host_record(node.host_facts, sandbox::to_json(node.guards))));
  for (const auto& [name, kept] : run.data.as_object())
    facts.data.push_back(kept["record"].as_string());
  facts.upstream = finding.upstream;
  finding.run_record = LOAM_TRY(put(store, finding, trace::run_record(facts)));
  return {};
}

// Where another attempt goes on; on the disk before anything relies on it.
void settle(Finding& finding) {
  const auto& place = *finding.checkpoint;
  auto settled = settle_checkpoints(place.folder, place.rule, *place.last_end);
  if (!settled) {
    finding.note = "checkpoint: " + settled.error().text;
    return;
  }
  finding.settled = std::move(*settled);
}

// What a job that failed to write one may not have said.
void tell_full_disk(Finding& finding) {
  const std::uint64_t free = disk_free_bytes(finding.checkpoint->folder);
  if (free < kDiskFull)
    finding.note = "the disk of Loam's state, where checkpoints lie, has " + format_size(free) +
                   " left; `loam store gc` or a smaller checkpoint.keep makes room";
}

// What failed for want of room, or took it from others, does not keep it: nobody else could clear it away.
void make_room(const std::string& state, Finding& finding) {
  const auto disk = look_at_disk(state);
  if (!disk || disk->free_bytes >= bounds_of(*disk).starts) return;
  const std::uint64_t kept_max = bounds_of(*disk).writers;
  for (const char* folder : {"/project", "/output"}) {
    const std::string path = finding.work + folder;
    const std::uint64_t bytes = folder_bytes(path, ~std::uint64_t{0} >> 1);
    if (bytes <= kept_max || !remove_tree(path)) continue;
    finding.note = "the disk of Loam's state had " + format_size(disk->free_bytes) + " left: " +
                   format_size(bytes) + " that the attempt wrote were not kept";
  }
}

// The line that mattered; of a gang a line of the rank that failed, where there is one.
std::string last_words_of(const std::string& attempt_folder, int rank) {
  const std::string tail = output_tail(attempt_folder, kTailBytes);
  const std::string own = rank < 0 ? "" : lines_of_rank(tail, rank);
  return error_line(own.empty() ? tail : own);
}

// On a worker.
void examine(store::Store& store, const Node& node, Finding& finding) {
  const api::ExitRecord& exit = finding.attempt.exit;
  (void)remove_tree(finding.work + "/scratch");
  if (!succeeded(exit)) make_room(node.context.paths.state, finding);
  const std::string kept = finding.work + "/project";
  if (folder_bytes(kept, kKeptFilesBytesMax) > kKeptFilesBytesMax) {
    const auto removed = remove_tree(kept);
    finding.note =
        "files that the attempt changed in /project are over 1 GiB and were not kept; write large "
        "results to "
        "the output folder or a mount";
    if (!removed) finding.note += " (" + removed.error().text + ")";
  }
  const auto lines = read_foreign(finding.work + "/run", "metrics.jsonl", kMetricsBytesMax);
  const Json metrics = summarize_metrics(lines ? *lines : "");
  if (!lines && lines.error().code == ErrorCode::too_large)
    finding.note = "metrics over 16 MiB were left out of the record";
  if (finding.job.sweep != 0) finding.metrics = metrics;
  if (!succeeded(exit)) {
    finding.line = last_words_of(finding.attempt_folder, exit.rank);
    finding.error = describe_exit(exit);
  } else if (!finding.output_path.empty()) {
    auto output = take_output(store, finding);
    if (output) finding.output = *output;
    if (!output) finding.error = output.error().text;
  }
  if (finding.checkpoint && !succeeded(exit)) tell_full_disk(finding);
  if (finding.checkpoint && finding.goes_on) settle(finding);
  if (finding.checkpoint && succeeded(exit))
    (void)prune_checkpoints(finding.checkpoint->folder, finding.checkpoint->rule);
  if (auto recorded = put_records(store, node, finding, metrics);
      !recorded && finding.error.empty())
    finding.error = "the run's record: " + recorded.error().text;
}

}  // namespace

bool succeeded(const api::ExitRecord& record) {
  return record.outcome == api::Outcome::exited && record.code == 0;
}

std::string describe_exit(const api::ExitRecord& record) {
  if (record.rank >= 0) {
    api::ExitRecord own = record;
    own.rank = -1;
    return "rank " + std::to_string(record.rank) + " failed first: " + describe_exit(own);
  }
  switch (record.outcome) {
    case api::Outcome::exited:
      return "exit status " + std::to_string(record.code);
    case api::Outcome::signaled:
      return "killed by signal " + std::to_string(record.signal);
    case api::Outcome::timed_out:
      return "timed out";
    case api::Outcome::cancelled:
      return "cancelled";
    case api::Outcome::out_of_memory:
      return "out of memory: charged peak " + format_size(record.memory_peak_bytes) + " of limit " +
             format_size(record.memory_limit_bytes) +
             " (includes cache); ask for more in resources.memory";
    case api::Outcome::failed_to_start:
      return "could not be started: " + record.error;
    case api::Outcome::unkillable:
      return "could not be killed: " + record.error;
    case api::Outcome::lost:
      return "lost";
    case api::Outcome::device_busy:
    case api::Outcome::disk_full:
      return record.error;
    case api::Outcome::preempted:
      return "preempted";
  }
  return "ended";
}

std::string Runs::Impl::last_words(const AttemptView& attempt) const {
  return last_words_of(node.supervisor.folder_of(attempt.id), attempt.exit.rank);
}

void Runs::Impl::on_running(AttemptId id) {
  watch_disk();
  const auto attempt = node.supervisor.find(id);
  auto job = attempt ? tables.job(attempt->job) : std::nullopt;
  if (!job || job->ended()) return;
  if (job->kind == "lane") lane_runs(*job, id);
  if (job->in_queue()) {  // adopted by a node that died between the start and its row
    job->state = "running";
    tables.save(*job);
  }
  if (job->kind == "replica" || job->kind == "gateway") return services->on_running(*job, *attempt);
  Json data = Json::object({{"state", "running"}, {"attempt", attempt->number}});
  if (!job->checkpoint.empty()) data.set("checkpoint", job->checkpoint);
  step_event(*job, std::move(data));
}

void Runs::Impl::on_exit(AttemptId id, const api::ExitRecord& record, bool reboot) {
  const auto attempt = node.supervisor.find(id);
  auto job = attempt ? tables.job(attempt->job) : std::nullopt;
  if (job && attempt->in_lane())
    task_left_lane(*attempt, record);
  else if (job)
    record_usage(*job, *attempt, record);
  if (!job || job->ended()) return;
  AttemptView ended = *attempt;
  ended.exit = record;
  ended.started_ms = record.started_ms != 0 ? record.started_ms : ended.started_ms;
  ended.ended_ms = record.ended_ms != 0 ? record.ended_ms : wall_ms();
  if (on_device_exit(*job, id, record)) return;
  if (job->kind == "replica" || job->kind == "gateway") {
    if (record.outcome == api::Outcome::disk_full) drop_files(*job, ended);
    return services->on_exit(*job, ended, record, reboot);
  }
  if (job->kind == "lane") return lane_ended(*job, ended, record, reboot);
  if (record.outcome == api::Outcome::lost) return on_lost(*job, reboot);
  job->state = "finishing";
  tables.save(*job);
  if (resumed) finish(job->id);
}

void Runs::Impl::finish(JobId id) {
  auto job = tables.job(id);
  const auto run = job ? tables.run(job->run) : std::nullopt;
  const auto attempt = last_attempt(id);
  if (!run || !attempt || attempt->state != "ended" || job->ended() || !finishing.insert(id).second)
    return;
  auto finding = std::make_shared<Finding>();
  finding->run = *run;
  finding->job = *job;
  finding->project = project_of(*run);
  finding->attempt = *attempt;
  finding->work = work_of(*job, attempt->number);
  finding->attempt_folder = node.supervisor.folder_of(attempt->id);
  if (const auto env = job->env.empty() ? std::nullopt : envs.find(job->env)) {
    finding->env_section = env->section;
    finding->env_tree = env->tree;
  }
  if (const spec::Step* step = job->kind == "step" ? step_of(*run, *job) : nullptr) {
    if (step->output) finding->output_path = step->output->path;
    finding->checkpoint = checkpoint_of(*run, *job);
    finding->goes_on = goes_on(*step, *job, attempt->exit) && !job->cancel;
    finding->checkpoint_is_output =
        step->checkpoint && step->output && step->checkpoint->path == step->output->path;
    for (const JobRow& made : made_before(*run, *step))
      if (const auto version = models.find(run->uid, {made.model, made.version}))
        finding->upstream.push_back(version->record);
  }
  finding->pin = node.store.pin();
  node.loop.offload([this, finding] { examine(node.store, node, *finding); },
                    [this, finding] {
                      finishing.erase(finding->job.id);
                      finished(finding->job.id, finding->attempt, *finding);
                      release_pin(std::move(finding->pin));
                    });
}

// One transaction: the version, the records' roots, the job's end.
void Runs::Impl::finished(JobId id, const AttemptView& attempt, Finding& finding) {
  auto job = tables.job(id);
  if (!job || job->ended()) return;
  LOAM_CRASH_POINT("node.output_stored");
  if (!finding.note.empty()) note(job->run, target_text(*job) + ": " + finding.note);
  for (const std::string& record : finding.records) tables.remember_record(job->run, record);
  job->record = finding.run_record;
  job->metrics = finding.metrics;
  if (!finding.error.empty()) return attempt_failed(*job, attempt, finding);
  Json data = Json::object({{"attempt", attempt.number}, {"exit", api::to_json(attempt.exit)}});
  if (finding.output) {
    const spec::Step* step = step_of(finding.run, *job);
    ModelVersion version;
    version.uid = finding.run.uid;
    version.name = step != nullptr ? step->output->model : finding.run.project;
    version.version = models.next_version(version.uid, version.name);
    version.tree = finding.output->digest.hex();
    store_use.add(version.uid, finding.output->added_bytes);
    version.size_bytes = static_cast<std::int64_t>(finding.output->size_bytes);
    version.created_ms = wall_ms();
    version.run = job->run;
    version.step = job->name;
    version.project = finding.run.project;
    const auto record =
        node.store.put_record(trace::model_record({.model = version.name,
                                                   .version = static_cast<int>(version.version),
                                                   .tree = version.tree,
                                                   .size_bytes = finding.output->size_bytes,
                                                   .run = finding.run_record,
                                                   .imported_from = "",
                                                   .created_ms = version.created_ms}));
    if (!record) {
      finding.error = "the model's record: " + record.error().text;
      return attempt_failed(*job, attempt, finding);
    }
    version.record = record->hex();
    models.add(version);
    tables.remember_record(job->run, version.record);
    job->model = version.name;
    job->version = version.version;
    job->tree = version.tree;
    data.set("model_version", version.name + "@" + std::to_string(version.version));
  }
  job->why.clear();  // it may have finished while it was to make room
  end_job(*job, "succeeded", "", std::move(data));
  node.db.after_commit([work = finding.work] {
    LOAM_CRASH_POINT("node.result_committed");
    (void)remove_tree(work + "/output");  // the store has it now
  });
  consider_after(*job);
}

}  // namespace loam::node
