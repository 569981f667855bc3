// A submission: read the file, refuse what can never be, take the snapshot with the user's rights,
// write it down, answer.
//
//   body ─ read_project (syntax) ─ fits? ─ secrets ─▶ worker: __walk ─▶ store ─▶ read_project
//   (files) ─ rows ─ 201
//
// The answer leaves only when snapshot and rows are durable: an acknowledged submission is never
// lost.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/clock.h"
#include "base/crash_point.h"
#include "base/files.h"
#include "base/text.h"
#include "node/job_request.h"
#include "node/runs_impl.h"
#include "node/submission.h"
#include "node/submission_checks.h"

namespace loam::node {

namespace {

constexpr std::uint64_t kSnapshotBytesMax = 8ull << 30;
constexpr const char* kHomeOfRoot = "/";

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

// On a worker.
void take_snapshot(UserHelpers& helpers, store::Store& store, Submission& submission,
                   const std::string& empty_folder) {
  const UserIds reader = reader_of(submission.run);
  Json patterns{Json::Array{}}, skipped{Json::Array{}};
  if (submission.project) {
    for (const spec::DataSource& source : submission.project->data) patterns.push(source.files);
    // Left by a script that ran outside Loam; jobs see their own.
    for (const spec::Step& step : submission.project->steps)
      if (step.checkpoint) skipped.push(step.checkpoint->path);
  }
  const store::TreeOptions options{.owner_root = true, .size_bytes_max = kSnapshotBytesMax};
  if (submission.empty_snapshot) {
    auto folder = make_folders(empty_folder, 0755);
    auto fd = open_file(empty_folder, O_RDONLY | O_DIRECTORY);
    submission.snapshot = fd ? store.put_tree(fd->get(), options) : tl::unexpected(fd.error());
  } else {
    auto streamed =
        helpers.stream(reader, {"__walk", submission.run.folder},
                         Json::object({{"data", patterns}, {"skip", skipped}}).dump(), [&](int fd) -> Result<void> {
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
  auto answer = helpers.call(reader, {"__match", submission.run.folder},
                             Json::object({{"patterns", patterns}}).dump());
  const auto document = answer ? Json::parse(*answer) : Result<Json>(Json());
  if (document)
    for (const std::string& pattern : (*document)["matched"].as_strings())
      submission.matched.insert(pattern);
}

// On a worker: each pattern of the file is held against each path.
void read_again(const store::Store& store, Submission& submission) {
  if (!submission.project || !submission.snapshot || !submission.listing) return;
  const SnapshotFolder folder(*submission.listing, store.tree_path(submission.snapshot->digest),
                              submission.matched, false);
  submission.read = spec::read_project(submission.run.text, &folder, &submission.models);
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

}  // namespace

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
    if (auto asked = checked_request(command)) jobs.back().request = std::move(*asked);
  }
  if (project && wants_steps(run.verb))
    for (const spec::Step& step : project->steps) {
      jobs.push_back(job_for(run, "step", step.name, step.resources.cpu_milli,
                             static_cast<std::int64_t>(step.resources.memory_bytes)));
      jobs.back().request = request_json(step.resources, step.ranks);
    }
  if (project && wants_services(run.verb))
    for (const spec::Service& service : project->services)
      for (int i = 1; i <= service.replicas.max; ++i) {  // those above min: rollout.cc parks them
        jobs.push_back(job_for(run, "replica",
                               i == 1 ? service.name : service.name + "." + std::to_string(i),
                               service.resources.cpu_milli,
                               static_cast<std::int64_t>(service.resources.memory_bytes)));
        jobs.back().service = service.name;
        jobs.back().request = request_json(service.resources);
      }
  return jobs;
}

namespace {

// Verb, folder, file and hold: what every submission says.
Result<void> read_what(const Json& body, const Caller& caller, Submission& submission) {
  RunRow& run = submission.run;
  run.verb = body["verb"].as_string();
  run.folder = body["project"].as_string();
  while (run.folder.size() > 1 && run.folder.back() == '/') run.folder.pop_back();
  run.file = body["file"].is_string() ? body["file"].as_string() : "loam.yaml";
  run.text = body["text"].as_string();
  run.created_ms = wall_ms();
  run.options = Json::object({{"force", body["force"].as_bool()}});
  if (run.verb != "up" && run.verb != "train" && run.verb != "serve" && run.verb != "run")
    return fail(ErrorCode::invalid, "verb: expected up, train, serve or run");
  if (body["hold"].as_bool()) {
    if (run.verb == "serve") return fail(ErrorCode::invalid, "hold: services are not held");
    submission.held = user_name(caller.uid);
  }
  LOAM_CHECK(check_folder(run.folder));
  if (run.verb != "run" && run.text.empty())
    return fail(ErrorCode::invalid, "text: the content of loam.yaml is missing");
  return {};
}

}  // namespace

// Whose ids read the folder and whose ids the jobs have (sandbox.md, "Identity").
Result<void> Runs::Impl::fill_identity(const Caller& caller, RunRow& run) {
  const Identity& identity = node.context.identity;
  // What root submits reads and mounts with root's rights: less than all is no scope of it.
  if (caller.uid == 0 && caller.scope != Scope::admin && !identity.rootless)
    return fail(ErrorCode::denied, "root's jobs read and mount whatever is on this machine: a token of root needs "
                                      "the scope admin to submit; make one of an ordinary user instead");
  run.uid = run.reader_uid = run.job_uid = caller.uid;
  run.gid = run.reader_gid = run.job_gid = caller.gid;
  run.groups = run.job_groups = ids_json(caller.groups);
  run.user = user_name(caller.uid);
  if (const auto user = known_user(caller.uid)) run.home = user->home;
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

void Runs::Impl::submit(const Request& request, ResponderPtr responder, Intent intent) {
  const Json& body = request.body;
  auto submission = std::make_shared<Submission>();
  submission->intent = intent;
  submission->responder = responder;
  RunRow& run = submission->run;
  if (auto read = read_what(body, request.caller, *submission); !read)
    return responder->reply_error(read.error());
  std::optional<spec::Project> project;
  if (!run.text.empty()) {
    auto read = spec::read_project(run.text, nullptr);
    if (!read.project) return refuse(responder, run.file, read.problems);
    project = std::move(read.project);
  }
  const std::string& named = body["account"].as_string();
  const bool of_file = named.empty() && project && !project->account.empty();
  const auto submitter =
      submitter_of(node, request.caller, of_file ? project->account : named);
  if (!submitter && of_file)
    return refuse(responder, run.file,
                  {{project->account_place, "account", submitter.error().text}});
  if (!submitter) return responder->reply_error(submitter.error());
  run.account = submitter->account;
  auto priority = checked_priority(body, *submitter);
  if (!priority) return responder->reply_error(priority.error());
  if (*priority) run.options.set("priority", **priority);
  if (run.verb == "run") {
    if (auto read = read_command(node, body["command"], *submitter, run); !read)
      return responder->reply_error(read.error());
  }
  if (project) {
    if (auto misfits = find_misfits(node, *submitter, run.verb, *project); !misfits.empty())
      return refuse(responder, run.file, misfits);
    submission->project = std::move(project);
    run.project = submission->project->name;
    run.endpoint = submission->project->endpoint;
  } else {
    run.project = name_from_folder(run.folder);
  }
  if (auto filled = fill_identity(request.caller, run); !filled)
    return responder->reply_error(filled.error());
  if (!queue_has_room(node, run, submission->project, responder)) return;
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
  if (auto room = check_room(run.uid); !room) return responder->reply_error(room.error());
  // A home or the whole machine is nobody's project: such a command sees an empty one.
  submission->empty_snapshot =
      run.text.empty() && (run.folder == kHomeOfRoot || run.folder == run.home);
  submission->pin = node.store.pin();
  node.loop.offload_for(
      run.reader_uid,
      [this, submission] {
        take_snapshot(node.helpers, node.store, *submission,
                      node.context.paths.builds + "/empty-project");
        read_again(node.store, *submission);
      },
      [this, submission] { snapshot_taken(submission); });
}

void Runs::Impl::snapshot_taken(const std::shared_ptr<Submission>& submission) {
  if (closing)
    return submission->responder->reply_error({ErrorCode::unavailable, "the node is stopping"});
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
    if (!submission->read.project)
      return refuse(submission->responder, run.file, submission->read.problems);
    submission->project = std::move(submission->read.project);
  }
  if (submission->intent == Intent::forecast) return forecast(submission);
  // Again: others may have been queued meanwhile.
  if (!queue_has_room(node, run, submission->project, submission->responder)) return;
  if (auto room = check_room(run.uid, submission->snapshot->added_bytes); !room)
    return submission->responder->reply_error(room.error());
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
    LOAM_CRASH_POINT("node.secrets_kept");
  } else {
    secrets.forget_run(run.id);  // of a submission with this number that a crash kept from being one
  }
  store_use.add(run.uid, submission.snapshot->added_bytes);
  if (submission.project)
    projects[run.id] = std::make_shared<const spec::Project>(*submission.project);
  for (JobRow& job : jobs_for(run, submission.project)) {
    if (job.kind != "replica") job.held = submission.held;
    tables.insert(job);
  }
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

}  // namespace loam::node
