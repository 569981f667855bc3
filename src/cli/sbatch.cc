// `loam sbatch FILE`: a Slurm batch script as it is, as a job of this machine.
//
//   FILE's #SBATCH lines ─┐
//   options ──────────────┴─ slurm_job.h ─▶ a folder with the script and what starts it
//                                           ─▶ its snapshot, as any project's ─▶ POST /v1/runs
//
// The job runs in the caller's folder itself, mounted writable, for that is where a Slurm job reads
// and writes (docs/slurm.md).
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

#include "base/files.h"
#include "base/text.h"
#include "cli/command_run.h"
#include "cli/follow.h"
#include "cli/report.h"
#include "cli/slurm_job.h"
#include "cli/submission.h"
#include "cli/verbs.h"
#include "spec/checks.h"

extern char** environ;

namespace loam::cli {
namespace {

// A folder of the caller's that is gone when the submission has been answered: its snapshot stays.
class Stage {
 public:
  static Result<Stage> make() {
    const char* base = ::getenv("TMPDIR");
    std::string path =
        std::string(base != nullptr && *base == '/' ? base : "/tmp") + "/loam-sbatch-XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) return fail_errno(path);
    return Stage(std::move(path));
  }
  Stage(Stage&& other) noexcept : path_(std::exchange(other.path_, "")) {}
  Stage& operator=(Stage&&) = delete;
  ~Stage() {
    if (!path_.empty()) (void)remove_tree(path_);
  }
  const std::string& path() const { return path_; }
  Result<void> write(const std::string& name, const std::string& text) const {
    return write_file_atomic(path_ + "/" + name, text, {.mode = 0755, .durable = false});
  }

 private:
  explicit Stage(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

struct Batch {
  SlurmScript script;
  SlurmValues values;
  SlurmJob job;
  std::vector<std::string> arguments;
  Json environment;
};

std::string current_folder() {
  char path[PATH_MAX];
  return ::getcwd(path, sizeof path) == nullptr ? "/" : path;
}

// What a run's environment has of its own, or what belongs to the terminal that it was sent from.
bool stays_here(std::string_view name) {
  static constexpr std::string_view kNames[] = {"HOME",
                                                "PWD",
                                                "OLDPWD",
                                                "SHLVL",
                                                "_",
                                                "TERM",
                                                "TMPDIR",
                                                "TMP",
                                                "TEMP",
                                                "XDG_RUNTIME_DIR",
                                                "DBUS_SESSION_BUS_ADDRESS",
                                                "DISPLAY",
                                                "CUDA_VISIBLE_DEVICES",
                                                "NVIDIA_VISIBLE_DEVICES"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames) ||
         name.starts_with("SSH_") || name.starts_with("SLURM_");
}

// A job's environment is kept in the node's database, where no secret may be (loam secret).
bool looks_secret(std::string name) {
  for (char& one : name)
    if (one >= 'a' && one <= 'z') one = static_cast<char>(one - 'a' + 'A');
  for (const char* word :
       {"TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "API_KEY", "ACCESS_KEY"})
    if (name.find(word) != std::string::npos) return true;
  return false;
}

// --export: ALL unless it says NONE, or names without ALL.
Json environment_of(const SlurmValues& values, std::vector<std::string>& kept_back) {
  const auto found = values.find("export");
  const auto wanted =
      split(found == values.end() || found->second.empty() ? "ALL" : found->second, ',');
  const bool all = std::find(wanted.begin(), wanted.end(), "ALL") != wanted.end();
  Json environment = Json::object();
  for (char** entry = environ; all && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const auto equals = text.find('=');
    if (equals == std::string_view::npos || equals == 0 || !is_utf8(text)) continue;
    const std::string name(text.substr(0, equals));
    // A name such as `npm_config_a-b` or `BASH_FUNC_f%%` is none that a shell hands on as a
    // variable.
    if (stays_here(name) || !spec::variable_problem(name).empty()) continue;
    if (looks_secret(name))
      kept_back.push_back(name);
    else
      environment.set(name, text.substr(equals + 1));
  }
  for (const std::string& one : wanted) {
    const auto equals = one.find('=');
    const std::string name = one.substr(0, equals);
    if (one == "ALL" || one == "NONE" || one == "NIL" || name.empty()) continue;
    const char* own = ::getenv(name.c_str());
    if (equals != std::string::npos)
      environment.set(name, one.substr(equals + 1));
    else if (own != nullptr && is_utf8(own))
      environment.set(name, own);
    std::erase(kept_back, name);
  }
  return environment;
}

Result<std::string> read_script(const std::string& path) {
  auto text = path == "-" ? read_fd(0, kScriptBytesMax) : read_file(path, kScriptBytesMax);
  if (!text && path == "-") return in_context("standard input", std::move(text.error()));
  return text;
}

Result<Batch> read_batch(Context& context) {
  Batch batch;
  const SlurmValues given = slurm_values(context.arguments);
  std::vector<std::string> words = context.arguments.command;
  const auto wrap = given.find("wrap");
  if (wrap != given.end() && !words.empty())
    return fail(ErrorCode::invalid,
                "--wrap: expected no script beside it, found '" + printable(words[0]) + "'");
  const std::string path = wrap != given.end() ? "wrap" : words.empty() ? "-" : words[0];
  const std::string text =
      wrap != given.end() ? "#!/bin/sh\n# This script was made by --wrap.\n" + wrap->second + "\n"
                          : LOAM_TRY(read_script(path));
  batch.script =
      LOAM_TRY(parse_slurm_script(text, path == "-" ? "standard input" : printable(path)));
  if (!words.empty()) batch.arguments.assign(words.begin() + 1, words.end());
  for (const std::string& word : batch.arguments)
    if (!is_utf8(word)) return fail(ErrorCode::invalid, "the script's arguments are no UTF-8 text");
  batch.values = batch.script.values;
  for (const auto& [name, value] : given) batch.values[name] = value;
  const std::string name = path == "-" ? "sbatch" : path.substr(path.rfind('/') + 1);
  batch.job = LOAM_TRY(slurm_job(batch.values, current_folder(), name));
  std::vector<std::string> kept_back;
  batch.environment = environment_of(batch.values, kept_back);
  if (!kept_back.empty())
    batch.job.not_honoured.push_back(
        "not passed on, for they look like secrets: " + printable(join(kept_back, ", ")) +
        " (--export=ALL,NAME passes one on)");
  for (const std::string& place : batch.script.calls_srun)
    batch.job.not_honoured.push_back(place +
                                     ": there is no srun here; the script runs once, with "
                                     "all CPUs and GPUs");
  return batch;
}

// "job_7!" → "job-7": a project's name, which says whose cache the job's HOME is.
std::string project_name(const std::string& job_name) {
  std::string name;
  for (const char one : job_name.substr(0, 40)) {
    const char lower = one >= 'A' && one <= 'Z' ? static_cast<char>(one - 'A' + 'a') : one;
    const bool plain = (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9');
    if (plain)
      name += lower;
    else if (!name.empty() && name.back() != '-')
      name += '-';
  }
  while (!name.empty() && name.back() == '-') name.pop_back();
  return name.empty() || name[0] < 'a' || name[0] > 'z'
             ? "sbatch" + (name.empty() ? "" : "-" + name)
             : name;
}

// JSON is YAML: no quoting of our own.
std::string project_text(const SlurmJob& job) {
  Json mounts = Json::array();
  for (const std::string& folder : slurm_folders(job))
    mounts.push(Json::object({{"from", folder}, {"to", folder}, {"mode", "rw"}}));
  return Json::object({{"name", project_name(job.name)}, {"mounts", std::move(mounts)}}).dump() +
         "\n";
}

Json command_of(const Batch& batch) {
  const SlurmJob& job = batch.job;
  std::vector<std::string> argv{"/project/start"};
  argv.insert(argv.end(), batch.arguments.begin(), batch.arguments.end());
  Json devices = Json::array();
  for (const auto& [kind, amount] : job.devices) {
    Json device = Json::object({{"kind", kind}, {"count", amount.count}});
    if (!amount.model.empty()) device.set("model", amount.model);
    devices.push(std::move(device));
  }
  Json command = Json::object({{"argv", Json::array_of(argv)},
                               {"terminal", false},
                               {"standard_input", false},
                               {"attach", false},
                               {"environment", batch.environment},
                               {"cpu_milli", job.tasks * job.cpus_per_task * 1000},
                               {"memory_bytes", job.memory_bytes},
                               {"time_ms", job.time_ms},
                               {"network", "host"},
                               {"env", nullptr},
                               {"columns", 80},
                               {"rows", 24}});
  if (devices.size() > 0) command.set("devices", std::move(devices));
  return command;
}

SlurmIdentity identity_of_caller() {
  SlurmIdentity identity{.uid = ::getuid(), .gid = ::getgid()};
  char host[256] = "";
  if (::gethostname(host, sizeof host - 1) == 0) identity.host = host;
  identity.host = identity.host.substr(0, identity.host.find('.'));
  const passwd* entry = ::getpwuid(identity.uid);
  identity.user = entry == nullptr ? std::to_string(identity.uid) : entry->pw_name;
  return identity;
}

// Loam keeps no order between runs: what has not ended yet cannot be waited for.
Result<void> check_dependencies(const engines::LocalNode& node, const SlurmJob& job) {
  for (const std::string& one : job.dependency) {
    const auto colon = one.find(':');
    const std::string kind = one.substr(0, colon), id = one.substr(colon + 1);
    const auto run = node.call("GET", "/v1/runs/" + id);
    if (!run) return in_context("--dependency=" + one, run.error());
    const std::string& state = (*run)["state"].as_string();
    const std::string now =
        "--dependency=" + one + ": run " + id + " is " + printable(state) + "; ";
    if (!run_has_settled(state))
      return fail(ErrorCode::unavailable,
                  now +
                      "expected one that has ended, for Loam keeps no order between runs: submit "
                      "it then (loam sbatch --wait), or make both steps of one loam.yaml (after:)");
    const bool succeeded = state == "succeeded";
    if ((kind == "afterok" && !succeeded) || (kind == "afternotok" && succeeded))
      return fail(ErrorCode::invalid, now + "this job would never start");
  }
  return {};
}

Result<Json> body_of(const Batch& batch, const Stage& stage, const SlurmTask& task) {
  LOAM_CHECK(stage.write("slurm_script", batch.script.text));
  LOAM_CHECK(stage.write("start", slurm_start_script(batch.job, identity_of_caller(), task)));
  Json body = LOAM_TRY(submission("run", nullptr));
  body.set("project", stage.path());
  body.set("text", project_text(batch.job));
  body.set("command", command_of(batch));
  body.set("hold", batch.job.hold);
  if (!batch.job.account.empty()) body.set("account", batch.job.account);
  if (batch.job.priority) body.set("priority", *batch.job.priority);
  return body;
}

struct SubmittedBatch {
  std::vector<std::int64_t> runs;
  int status = kExitOk;
};

SubmittedBatch submit_batch(Context& context, const engines::LocalNode& node, Signals& signals,
                            const Batch& batch) {
  SubmittedBatch submitted;
  std::vector<SlurmTask> tasks(1);
  if (batch.job.array) {
    tasks.clear();
    for (const std::uint32_t index : batch.job.array->indexes) tasks.push_back({.index = index});
  }
  for (SlurmTask& task : tasks) {
    if (!submitted.runs.empty()) task.array_job = submitted.runs.front();
    const auto stage = Stage::make();
    auto body = stage ? body_of(batch, *stage, task) : Result<Json>(tl::unexpected(stage.error()));
    if (!body) {
      submitted.status = report(context, body.error());
      break;
    }
    const Submitted one =
        submit(context.console, node, signals, "/v1/runs", *body, "loam.yaml made for this job");
    if (one.run == 0) {
      submitted.status = one.status;
      break;
    }
    submitted.runs.push_back(one.run);
    if (one.interrupted) {
      submitted.status = kExitInterrupted;
      break;
    }
  }
  // Half an array is no array.
  if (submitted.status != kExitOk)
    for (const std::int64_t run : submitted.runs)
      (void)node.call("POST", "/v1/cancel", Json::object({{"target", std::to_string(run)}}));
  return submitted;
}

// The highest exit status, as sbatch --wait returns it.
int wait_for_all(Context& context, const engines::LocalNode& node, Signals& signals,
                 const std::vector<std::int64_t>& runs) {
  int highest = kExitOk;
  for (const std::int64_t run : runs)
    highest = std::max(highest, watch_command(context.console, node, signals, {.run = run}));
  return highest;
}

int run_batch(Context& context) {
  const auto batch = read_batch(context);
  if (!batch) return report(context, batch.error());
  for (const std::string& line : batch->job.not_honoured) context.console.warn(line);
  const auto node = connect_node(context);
  if (!node) return report(context, node.error());
  if (const auto checked = check_dependencies(*node, batch->job); !checked)
    return report(context, checked.error());
  Signals signals;
  const SubmittedBatch submitted = submit_batch(context, *node, signals, *batch);
  if (submitted.status != kExitOk) return submitted.status;
  const std::string number = std::to_string(submitted.runs.front());
  if (batch->values.contains("parsable"))
    context.console.print(number);
  else if (!batch->values.contains("quiet"))
    context.console.print("Submitted batch job " + number);
  return batch->values.contains("wait") ? wait_for_all(context, *node, signals, submitted.runs)
                                        : kExitOk;
}

}  // namespace

Verb sbatch_verb() {
  Verb verb;
  verb.name = "sbatch";
  verb.here_only = true;
  verb.summary = "a Slurm batch script, as it is, as a job of this machine";
  verb.takes_command = true;
  verb.command_words = "FILE [ARGUMENTS]";
  verb.options = slurm_verb_options();
  verb.examples =
      "loam sbatch train.sh\n"
      "loam sbatch --time=2:00:00 --gpus=1 train.sh --epochs 10\n"
      "loam sbatch --wait --wrap 'make -j4' -c 4 --mem 8G";
  verb.run = run_batch;
  return verb;
}

}  // namespace loam::cli
