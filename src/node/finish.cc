// From an exit record to what came of it: kept files, metrics, the run's record, the model's next
// version, a retry.
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
#include "node/findings.h"
#include "node/runs_impl.h"
#include "node/services.h"
#include "trace/records.h"

namespace loam::node {

// What the worker found in an ended attempt.
struct Finding {
  // in
  RunRow run;
  JobRow job;
  ProjectPtr project;
  AttemptView attempt;
  std::string work, attempt_folder;
  std::string env_tree;
  Json env_section;
  std::vector<std::string> upstream;  // model records
  std::string output_path;            // below /project, "" where the step has none
  std::shared_ptr<store::Store::Pin> pin;
  // out
  std::string error;  // "" where the job succeeded
  std::string line;   // of the output
  std::string note;
  std::string run_record;
  std::vector<std::string> records;
  std::optional<store::TreeInfo> output;
};

namespace {

constexpr std::size_t kTailBytes = 256u << 10;
constexpr std::chrono::milliseconds kLostPause{1500};  // times the losses in a row

Result<store::TreeInfo> take_output(store::Store& store, const Finding& finding) {
  const std::string folder = finding.work + "/output";
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
  return Json::object({{"asked", Json::object({{"cpu_milli", finding.job.cpu_milli},
                                               {"memory_bytes", finding.job.memory_bytes}})},
                       {"used", Json::object({{"cpu_ns", exit.cpu_ns},
                                              {"memory_peak_bytes", exit.memory_peak_bytes}})}});
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
      if (finding.job.kind == "step" && step.name == finding.job.name) {
        facts.command = step.run.text;
        if (!step.params.is_null()) facts.params = trace::with_fractions_as_strings(step.params);
      }
  }
  if (facts.command.empty()) facts.command = join(run.options["command"]["argv"].as_strings(), " ");
  facts.metrics = trace::with_fractions_as_strings(metrics);
  facts.resources = resources_of(finding);
  facts.missing_guards = Json::array();
  for (const api::MissingGuard& missing : finding.attempt.exit.missing)
    facts.missing_guards.push(Json::object({{"guard", missing.guard}, {"reason", missing.reason}}));
  facts.outcome = std::string(api::outcome_name(finding.attempt.exit.outcome));
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

// On a worker.
void examine(store::Store& store, const Node& node, Finding& finding) {
  const api::ExitRecord& exit = finding.attempt.exit;
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
  if (!succeeded(exit)) {
    finding.line = error_line(output_tail(finding.attempt_folder, kTailBytes));
    finding.error = describe_exit(exit);
  } else if (!finding.output_path.empty()) {
    auto output = take_output(store, finding);
    if (output) finding.output = *output;
    if (!output) finding.error = output.error().text;
  }
  if (auto recorded = put_records(store, node, finding, metrics);
      !recorded && finding.error.empty())
    finding.error = "the run's record: " + recorded.error().text;
}

}  // namespace

bool succeeded(const api::ExitRecord& record) {
  return record.outcome == api::Outcome::exited && record.code == 0;
}

std::string describe_exit(const api::ExitRecord& record) {
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
  }
  return "ended";
}

std::string Runs::Impl::last_words(const AttemptView& attempt) const {
  return error_line(output_tail(node.supervisor.folder_of(attempt.id), kTailBytes));
}

void Runs::Impl::on_running(AttemptId id) {
  const auto attempt = node.supervisor.find(id);
  auto job = attempt ? tables.job(attempt->job) : std::nullopt;
  if (!job || job->ended()) return;
  if (job->state == "queued") {  // adopted by a node that died between the start and its row
    job->state = "running";
    tables.save(*job);
  }
  if (job->kind == "replica" || job->kind == "gateway") return services->on_running(*job, *attempt);
  step_event(*job, Json::object({{"state", "running"}, {"attempt", attempt->number}}));
}

void Runs::Impl::on_exit(AttemptId id, const api::ExitRecord& record, bool reboot) {
  const auto attempt = node.supervisor.find(id);
  auto job = attempt ? tables.job(attempt->job) : std::nullopt;
  if (!job || job->ended()) return;
  AttemptView ended = *attempt;
  ended.exit = record;
  ended.started_ms = record.started_ms != 0 ? record.started_ms : ended.started_ms;
  ended.ended_ms = record.ended_ms != 0 ? record.ended_ms : wall_ms();
  if (job->kind == "replica" || job->kind == "gateway")
    return services->on_exit(*job, ended, record, reboot);
  if (record.outcome == api::Outcome::lost) return on_lost(*job, reboot);
  job->state = "finishing";
  tables.save(*job);
  if (resumed) finish(job->id);
}

// Nobody's fault, so it costs no retry; but three in a row within one boot have a reason in the job
// or the host.
void Runs::Impl::on_lost(JobRow& job, bool reboot) {
  const auto run = tables.run(job.run);
  const Json& command = run ? run->options["command"] : Json();
  const bool attended =
      job.kind == "shell" || command["terminal"].as_bool() || command["standard_input"].as_bool();
  if (job.lost_boot != node.boot_id) {
    job.lost_boot = node.boot_id;
    job.lost = 0;
  }
  if (!reboot) ++job.lost;
  const std::string why = reboot ? "the machine was restarted" : "its keeper died";
  if (job.cancel) {
    end_job(job, "cancelled", "", Json::object({{"why", job.why}}));
  } else if (attended) {
    end_job(job, "failed", "lost: " + why);
  } else if (job.lost >= kLostInARowMax) {
    end_job(job, "failed", "lost three times in a row");
  } else {
    events.add(job.run, "note",
               Json::object({{"lost", true},
                             {"text", "an attempt of " + target_text(job) + " was lost (" + why +
                                          "); it is tried again"}}));
    job.state = "queued";
    job.why = "an attempt was lost; it is tried again in a moment";
    tables.save(job);
    node.queue.release(job.id);
    // Whatever killed the keeper may still be at it; a node that starts later does not wait.
    const auto pause = kLostPause * job.lost;
    if (resumed)
      lost_pauses[job.id] = node.loop.after(pause, [this, id = job.id] {
        auto waiting = tables.job(id);
        if (!waiting || waiting->state != "queued") return;
        waiting->why.clear();
        enqueue(*waiting);
      });
    return;
  }
  consider(job.run);
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
    for (const JobRow& other : tables.jobs_of(run->id))
      for (const std::string& name : step->after)
        if (other.kind == "step" && other.name == name && !other.model.empty())
          if (const auto version = models.find(run->uid, {other.model, other.version}))
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
  if (!finding.error.empty()) return attempt_failed(*job, attempt, finding);
  Json data = Json::object({{"attempt", attempt.number}, {"exit", api::to_json(attempt.exit)}});
  if (finding.output) {
    const spec::Step* step = step_of(finding.run, *job);
    ModelVersion version;
    version.uid = finding.run.uid;
    version.name = step != nullptr ? step->output->model : finding.run.project;
    version.version = models.next_version(version.uid, version.name);
    version.tree = finding.output->digest.hex();
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
  end_job(*job, "succeeded", "", std::move(data));
  node.db.after_commit([work = finding.work] {
    LOAM_CRASH_POINT("node.result_committed");
    (void)remove_tree(work + "/scratch");
    (void)remove_tree(work + "/output");  // the store has it now
  });
  consider(job->run);
}

void Runs::Impl::attempt_failed(JobRow& job, const AttemptView& attempt, const Finding& finding) {
  const Json data = Json::object({{"attempt", attempt.number},
                                  {"exit", api::to_json(attempt.exit)},
                                  {"error_line", finding.line}});
  if (job.cancel || attempt.exit.outcome == api::Outcome::cancelled) {
    end_job(job, "cancelled", "", data);
    return consider(job.run);
  }
  const std::string error = finding.error + (finding.line.empty() ? "" : ": " + finding.line);
  ++job.failures;
  job.lost = 0;
  const spec::Step* step = job.kind == "step" ? step_of(finding.run, job) : nullptr;
  const int retries = step != nullptr ? step->retries : 0;
  if (job.failures <= retries) {
    note(job.run, target_text(job) + "/" + std::to_string(attempt.number) + " failed (" + error +
                      "); retry " + std::to_string(job.failures) + " of " +
                      std::to_string(retries));
    enqueue(job);
    return;
  }
  end_job(job, "failed", error, data);
  consider(job.run);
}

}  // namespace loam::node
