// A submission: read the file, refuse what can never be, take the snapshot with the user's rights,
// write it down, answer.
//
//   body ─ read_project (syntax) ─ fits? ─ secrets ─▶ worker: __walk ─▶ store ─▶ read_project
//   (files) ─ rows ─ 201
//
// The answer leaves only when snapshot and rows are durable: an acknowledged submission is never
// lost.
#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/clock.h"
#include "base/crash_point.h"
#include "base/files.h"
#include "base/text.h"
#include "node/runs_impl.h"

namespace loam::node {

struct Submission {
  RunRow run;
  std::optional<spec::Project> project;
  Json secrets;
  Json proxy;
  std::vector<std::string> models;
  ResponderPtr responder;
  std::shared_ptr<store::Store::Pin> pin;  // what is put is not collected before a row names it
  bool empty_snapshot = false;
  Result<store::TreeInfo> snapshot = store::TreeInfo{};
  Result<std::vector<store::ListingEntry>> listing = std::vector<store::ListingEntry>{};
  std::set<std::string> matched;
};

namespace {

constexpr std::size_t kPathBytesMax = 4096;
constexpr std::size_t kArgumentsMax = 10'000;
constexpr std::uint64_t kSnapshotBytesMax = 8ull << 30;
constexpr const char* kHomeOfRoot = "/";

Json problems_json(const std::vector<spec::Problem>& problems) {
  Json list{Json::Array{}};
  for (const spec::Problem& problem : problems)
    list.push(Json::object({{"line", problem.place.line},
                            {"column", problem.place.column},
                            {"key", printable(problem.key)},
                            {"message", printable(problem.message)}}));
  return list;
}

void refuse(const ResponderPtr& responder, const std::string& file,
            const std::vector<spec::Problem>& problems) {
  responder->reply(
      422, Json::object({{"error", Json::object({{"code", "invalid"},
                                                 {"text", spec::format_problems(file, problems)}})},
                         {"problems", problems_json(problems)}}));
}

// "My Models" → "my-models"; commands have no loam.yaml that names the project.
std::string name_from_folder(const std::string& folder) {
  std::string name;
  for (const char c : folder.substr(folder.rfind('/') + 1)) {
    const char lower = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    name += (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9') ? lower : '-';
  }
  while (!name.empty() && name.front() == '-') name.erase(0, 1);
  return name.empty() ? "project" : name.substr(0, 48);
}

Json ids_json(const std::vector<std::uint32_t>& ids) {
  Json list{Json::Array{}};
  for (const std::uint32_t id : ids) list.push(id);
  return list;
}

Result<void> check_folder(const std::string& folder) {
  if (!folder.starts_with('/') || folder.size() > kPathBytesMax ||
      folder.find('\0') != std::string::npos)
    return fail(ErrorCode::invalid,
                "project: expected an absolute path, found '" + printable(folder) + "'");
  return {};
}

Result<void> check_command(const Json& command) {
  const auto argv = command["argv"].as_strings();
  if (argv.empty() || argv.size() != command["argv"].size())
    return fail(ErrorCode::invalid, "command.argv: expected a list of strings, the program first");
  if (argv.size() > kArgumentsMax)
    return fail(ErrorCode::too_large, "command.argv: over 10,000 arguments");
  for (const std::string& argument : argv)
    if (argument.find('\0') != std::string::npos)
      return fail(ErrorCode::invalid, "command.argv: holds a zero byte");
  for (const char* key : {"cpu_milli", "memory_bytes", "time_ms"})
    if (command[key].as_int() < 0)
      return fail(ErrorCode::invalid, std::string("command.") + key + ": below zero");
  for (const auto& [name, value] : command["environment"].as_object())
    if (name.empty() || name.find('=') != std::string::npos ||
        name.find('\0') != std::string::npos || value.as_string().find('\0') != std::string::npos)
      return fail(ErrorCode::invalid, "command.environment: '" + printable(name) +
                                          "' is no variable that a process can have");
  return {};
}

// What this machine can never do is said at once, at its place in the file.
void check_fits(const Queue& queue, const Identity& identity, const spec::Env& env,
                const spec::Resources& resources, const std::string& name,
                std::vector<spec::Problem>& problems) {
  if (resources.gpus > 0)
    problems.push_back({resources.place, name + ".resources.gpus",
                        "this machine has no GPUs that Loam can hand out"});
  const std::string refusal = queue.refusal({resources.cpu_milli, resources.memory_bytes});
  if (!refusal.empty()) problems.push_back({resources.place, name + ".resources", refusal});
  if (identity.single_id && (env.base != "host" || !env.pip.empty()))
    problems.push_back(
        {env.place, name + ".env",
         "this node has no subordinate ids, so only base: host can be used; an administrator can "
         "add them "
         "with: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER"});
}

bool wants_steps(const std::string& verb) { return verb == "up" || verb == "train"; }
bool wants_services(const std::string& verb) { return verb == "up" || verb == "serve"; }

std::vector<spec::Problem> find_misfits(const Node& node, const std::string& verb,
                                        const spec::Project& project) {
  std::vector<spec::Problem> problems;
  const Identity& identity = node.context.identity;
  if (wants_steps(verb))
    for (const spec::Step& step : project.steps)
      check_fits(node.queue, identity, step.env, step.resources, step.name, problems);
  if (wants_services(verb))
    for (const spec::Service& service : project.services)
      check_fits(node.queue, identity, service.env, service.resources, service.name, problems);
  if (verb == "train" && project.steps.empty())
    problems.push_back({{}, "steps", "this project has no steps to train"});
  if (verb == "serve" && project.services.empty())
    problems.push_back({{}, "services", "this project has no services"});
  const auto later = [](const auto& a, const auto& b) {
    return std::pair(a.place.line, a.place.column) < std::pair(b.place.line, b.place.column);
  };
  std::stable_sort(problems.begin(), problems.end(), later);
  return problems;
}

// On a worker.
void take_snapshot(store::Store& store, Submission& submission, const std::string& empty_folder) {
  const UserIds reader = reader_of(submission.run);
  Json patterns{Json::Array{}};
  if (submission.project)
    for (const spec::DataSource& source : submission.project->data) patterns.push(source.files);
  const store::TreeOptions options{.owner_root = true, .size_bytes_max = kSnapshotBytesMax};
  if (submission.empty_snapshot) {
    auto folder = make_folders(empty_folder, 0755);
    auto fd = open_file(empty_folder, O_RDONLY | O_DIRECTORY);
    submission.snapshot = fd ? store.put_tree(fd->get(), options) : tl::unexpected(fd.error());
  } else {
    auto streamed =
        stream_from_user(reader, {"__walk", submission.run.folder},
                         Json::object({{"data", patterns}}).dump(), [&](int fd) -> Result<void> {
                           submission.snapshot = store.put_tree_from_snapshot(fd, options);
                           if (!submission.snapshot)
                             return tl::unexpected(submission.snapshot.error());
                           return {};
                         });
    if (!streamed) submission.snapshot = tl::unexpected(streamed.error());
  }
  if (!submission.snapshot) return;
  submission.listing = store.listing(submission.snapshot->digest);
  if (patterns.size() == 0) return;
  auto answer = call_as_user(reader, {"__match", submission.run.folder},
                             Json::object({{"patterns", patterns}}).dump());
  const auto document = answer ? Json::parse(*answer) : Result<Json>(Json());
  if (document)
    for (const std::string& pattern : (*document)["matched"].as_strings())
      submission.matched.insert(pattern);
}

JobRow job_for(const RunRow& run, const std::string& kind, const std::string& name,
               std::int64_t cpu_milli, std::int64_t memory_bytes) {
  JobRow job;
  job.run = run.id;
  job.kind = kind;
  job.name = name;
  job.cpu_milli = cpu_milli;
  job.memory_bytes = memory_bytes;
  job.created_ms = run.created_ms;
  return job;
}

std::vector<JobRow> jobs_for(const RunRow& run, const std::optional<spec::Project>& project) {
  std::vector<JobRow> jobs;
  if (run.verb == "run" || run.verb == "shell") {
    const Json& command = run.options["command"];
    const std::string kind = run.verb == "shell" ? "shell" : "command";
    // Nobody's command is without limits, whatever its submission leaves out.
    const spec::Resources defaults;
    const std::int64_t cpu_milli = command["cpu_milli"].as_int();
    const std::int64_t memory_bytes = command["memory_bytes"].as_int();
    jobs.push_back(job_for(
        run, kind, kind, cpu_milli != 0 ? cpu_milli : std::int64_t{defaults.cpu_milli},
        memory_bytes != 0 ? memory_bytes : static_cast<std::int64_t>(defaults.memory_bytes)));
  }
  if (project && wants_steps(run.verb))
    for (const spec::Step& step : project->steps)
      jobs.push_back(job_for(run, "step", step.name, step.resources.cpu_milli,
                             static_cast<std::int64_t>(step.resources.memory_bytes)));
  if (project && wants_services(run.verb))
    for (const spec::Service& service : project->services)
      for (int i = 1; i <= service.replicas; ++i) {
        jobs.push_back(job_for(run, "replica",
                               i == 1 ? service.name : service.name + "." + std::to_string(i),
                               service.resources.cpu_milli,
                               static_cast<std::int64_t>(service.resources.memory_bytes)));
        jobs.back().service = service.name;
      }
  return jobs;
}

}  // namespace

// Whose ids read the folder and whose ids the jobs have (sandbox.md, "Identity").
Result<void> Runs::Impl::fill_identity(const Caller& caller, RunRow& run) {
  const Identity& identity = node.context.identity;
  run.uid = run.reader_uid = run.job_uid = caller.uid;
  run.gid = run.reader_gid = run.job_gid = caller.gid;
  run.groups = run.job_groups = ids_json(caller.groups);
  run.user = user_name(caller.uid);
  char buffer[16 << 10];
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwuid_r(caller.uid, &entry, buffer, sizeof buffer, &found) == 0 && found != nullptr)
    run.home = entry.pw_dir;
  run.job_user = run.user;
  if (caller.uid != 0 || identity.rootless) return {};
  struct stat status {};
  if (::stat(run.folder.c_str(), &status) != 0) return fail_errno(printable(run.folder));
  run.reader_uid = status.st_uid;
  run.reader_gid = status.st_gid;
  run.job_uid = status.st_uid != 0 ? status.st_uid : identity.job_uid;
  run.job_gid = status.st_uid != 0 ? status.st_gid : identity.job_gid;
  run.job_user = status.st_uid != 0 ? user_name(status.st_uid) : "loam";
  run.job_groups = Json::array();
  if (status.st_uid != 0) return {};
  run.reader_gid = 0;
  return {};
}

void Runs::Impl::submit(const Request& request, ResponderPtr responder) {
  const Json& body = request.body;
  auto submission = std::make_shared<Submission>();
  submission->responder = responder;
  RunRow& run = submission->run;
  run.verb = body["verb"].as_string();
  run.folder = body["project"].as_string();
  while (run.folder.size() > 1 && run.folder.back() == '/') run.folder.pop_back();
  run.file = body["file"].is_string() ? body["file"].as_string() : "loam.yaml";
  run.text = body["text"].as_string();
  run.created_ms = wall_ms();
  run.options = Json::object({{"force", body["force"].as_bool()}});
  if (run.verb != "up" && run.verb != "train" && run.verb != "serve" && run.verb != "run")
    return responder->reply_error({ErrorCode::invalid, "verb: expected up, train, serve or run"});
  if (auto checked = check_folder(run.folder); !checked)
    return responder->reply_error(checked.error());
  if (run.verb != "run" && run.text.empty())
    return responder->reply_error(
        {ErrorCode::invalid, "text: the content of loam.yaml is missing"});
  if (run.verb == "run") {
    const Json& command = body["command"];
    if (auto checked = check_command(command); !checked)
      return responder->reply_error(checked.error());
    const std::string refusal =
        node.queue.refusal({static_cast<std::uint64_t>(command["cpu_milli"].as_int(1000)),
                            static_cast<std::uint64_t>(command["memory_bytes"].as_int())});
    if (!refusal.empty()) return responder->reply_error({ErrorCode::invalid, refusal});
    run.options.set("command", command);
  }
  if (!run.text.empty()) {
    auto read = spec::read_project(run.text, nullptr);
    if (!read.project) return refuse(responder, run.file, read.problems);
    if (auto misfits = find_misfits(node, run.verb, *read.project); !misfits.empty())
      return refuse(responder, run.file, misfits);
    submission->project = std::move(read.project);
    run.project = submission->project->name;
    run.endpoint = submission->project->endpoint;
  } else {
    run.project = name_from_folder(run.folder);
  }
  if (auto filled = fill_identity(request.caller, run); !filled)
    return responder->reply_error(filled.error());
  const auto wanted =
      submission->project ? submission->project->secrets : std::vector<std::string>{};
  auto values = secrets.resolve(run.uid, wanted, body["secrets"]);
  if (!values) return responder->reply_error(values.error());
  submission->secrets = std::move(*values);
  // For environments alone; a command without a file has none to resolve.
  submission->proxy = submission->project && body["proxy_environment"].is_object()
                          ? body["proxy_environment"]
                          : Json::object();
  submission->models = models.names(run.uid);
  // A home or the whole machine is nobody's project: such a command sees an empty one.
  submission->empty_snapshot =
      run.text.empty() && (run.folder == kHomeOfRoot || run.folder == run.home);
  submission->pin = node.store.pin();
  node.loop.offload(
      [this, submission] {
        take_snapshot(node.store, *submission, node.context.paths.builds + "/empty-project");
      },
      [this, submission] { snapshot_taken(submission); });
}

void Runs::Impl::snapshot_taken(const std::shared_ptr<Submission>& submission) {
  if (!submission->snapshot)
    return submission->responder->reply_error(
        {submission->snapshot.error().code, "snapshot of " + printable(submission->run.folder) +
                                                ": " + submission->snapshot.error().text});
  if (!submission->listing) return submission->responder->reply_error(submission->listing.error());
  RunRow& run = submission->run;
  run.snapshot = submission->snapshot->digest.hex();
  run.snapshot_files = static_cast<std::int64_t>(submission->snapshot->files);
  run.snapshot_bytes = static_cast<std::int64_t>(submission->snapshot->size_bytes);
  if (submission->project) {
    const SnapshotFolder folder(*submission->listing,
                                node.store.tree_path(submission->snapshot->digest),
                                submission->matched, false);
    auto read = spec::read_project(run.text, &folder, &submission->models);
    if (!read.project) return refuse(submission->responder, run.file, read.problems);
    submission->project = std::move(read.project);
  }
  LOAM_CRASH_POINT("node.submission_stored");
  if (auto recorded = record_submission(*submission); !recorded)
    return submission->responder->reply_error(recorded.error());
  const RunId id = run.id;
  node.db.after_commit([this, submission, id] {
    LOAM_CRASH_POINT("node.submission_committed");
    submission->responder->reply(201, Json::object({{"run", id}}));
    release_pin(std::move(submission->pin));
    if (submission->project) node.loop.post([this, id] { prepare(id); });
  });
  // Nothing to resolve, so that its attempt may be in the same transaction.
  if (!submission->project) prepare(id);
}

// Run, jobs and secrets: all or nothing.
Result<void> Runs::Impl::record_submission(Submission& submission) {
  RunRow& run = submission.run;
  run.id = tables.insert(run);
  const bool keeps = submission.secrets.size() > 0 || submission.proxy.size() > 0;
  if (keeps) {
    auto kept = secrets.keep_for_run(
        run.id, Json::object({{"secrets", submission.secrets}, {"proxy", submission.proxy}}));
    if (!kept) {
      tables.remove_run(run.id);
      return in_context("secrets", kept.error());
    }
  }
  if (submission.project)
    projects[run.id] = std::make_shared<const spec::Project>(*submission.project);
  for (JobRow& job : jobs_for(run, submission.project)) tables.insert(job);
  events.add(run.id, "run", Json::object({{"state", run.state}}));
  if (submission.empty_snapshot)
    note(run.id, "this folder is not taken as a project: /project is empty");
  tell_what_was_lost(run);
  return {};
}

// Who comes back after a crash asks for the next run: it begins with what the one before it lost.
void Runs::Impl::tell_what_was_lost(const RunRow& run) {
  const auto before = tables.runs("uid=? AND folder=? AND id<? ORDER BY id DESC LIMIT 1",
                                  {std::int64_t{run.uid}, run.folder, run.id});
  if (before.empty()) return;
  for (const Json& event : events.all(before.front().id))
    if (event["kind"].as_string() == "note" && event["data"]["lost"].as_bool())
      note(run.id, event["data"]["text"].as_string());
}

// A terminal in an ended attempt's environment and files: a run of its own over the same snapshot.
void Runs::Impl::submit_shell(const Request& request, ResponderPtr responder) {
  Target target;
  auto attempt = find_attempt(request.caller, request.body["target"].as_string(), &target);
  if (!attempt) return responder->reply_error(attempt.error());
  if (attempt->state != "ended")
    return responder->reply_error(
        {ErrorCode::unavailable,
         target_text(*target.job) + " still runs; its files can be opened once it has ended"});
  if (target.job->kind == "gateway")
    return responder->reply_error({ErrorCode::invalid, "the gateway has no files of its own"});
  RunRow run = target.run;
  run.id = 0;
  run.verb = "shell";
  run.state = "preparing";
  run.error.clear();
  run.created_ms = wall_ms();
  run.ended_ms = 0;
  Json command = Json::object(
      {{"argv",
        request.body["argv"].size() > 0
            ? request.body["argv"]
            : Json::array({"sh", "-c", "command -v bash >/dev/null && exec bash; exec sh"})},
       {"terminal", request.body["terminal"].as_bool(true)},
       {"standard_input", true},
       {"cpu_milli", 1000},
       {"environment", request.body["environment"]}});
  if (auto checked = check_command(command); !checked)
    return responder->reply_error(checked.error());
  run.options = Json::object({{"command", std::move(command)}});
  run.id = tables.insert(run);
  const JobId source = target.job->state == "unchanged" ? target.job->source : target.job->id;
  for (JobRow& job : jobs_for(run, std::nullopt)) {
    job.env = target.job->env;
    job.source = source;
    job.source_attempt = attempt->number;
    job.state = "blocked";
    tables.insert(job);
  }
  events.add(run.id, "run", Json::object({{"state", run.state}}));
  set_run_state(run, "running");
  node.db.after_commit([responder, id = run.id] {
    responder->reply(201, Json::object({{"run", id}}));
  });
  node.loop.post([this, id = run.id] { consider(id); });
}

}  // namespace loam::node
