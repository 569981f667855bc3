// From the commit to the shim (recovery.md, "Order of a start"). Each step leaves what tells a
// restarted node how far the start came; so nothing here needs an fsync: after a power cut the boot
// id says it all.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/clock.h"
#include "base/crash_point.h"
#include "base/files.h"
#include "base/log.h"
#include "node/supervisor_impl.h"

namespace loam::node {
namespace {

// "" where its sandbox swaps no ids (shim/shim.h).
std::string swapped_ids(const api::AttemptPlan& plan) {
  const bool swaps = plan.project_owner == api::Owner::root_is_user ||
                     std::any_of(plan.binds.begin(), plan.binds.end(), [](const api::BindPlan& bind) {
                       return bind.owner == api::Owner::root_is_user;
                     });
  return swaps ? std::to_string(plan.uid) + ":" + std::to_string(plan.gid) : "";
}

api::CgroupPlan plan_of(const sandbox::CgroupPaths& paths) { return {paths.v2, paths.v1}; }

}  // namespace

AttemptId Supervisor::start(JobId job, api::AttemptPlan plan, const sandbox::CgroupLimits& limits,
                            std::function<Result<void>(const std::string& folder)> prepare_folder,
                            const Json& placement) {
  Impl& impl = *impl_;
  const auto last = impl.db.query("SELECT max(number) FROM attempts WHERE job = ?", {job});
  const AttemptId id = impl.db.insert(
      "INSERT INTO attempts (job, number, state, boot, cgroup, created_ms, placement) VALUES (?, "
      "?, 'starting', ?, ?, ?, ?)",
      {job, last[0].integer(0) + 1, impl.boot, sandbox::to_json(impl.context.cgroups).dump(),
       wall_ms(), placement.dump()});
  if (plan.lane) impl.db.write("UPDATE attempts SET lane = id WHERE id = ?", {id});
  auto attempt = std::make_shared<OpenAttempt>();
  attempt->id = id;
  attempt->is_lane = plan.lane.has_value();
  attempt->job = job;
  attempt->folder = impl.folder_of(id);
  attempt->limits = limits;
  attempt->prepare_folder = std::move(prepare_folder);
  plan.attempt = std::to_string(id);
  plan.folder = attempt->folder;
  attempt->plan = std::make_unique<api::AttemptPlan>(std::move(plan));
  impl.open[id] = attempt;
  impl.db.after_commit([this, attempt] { impl_->begin(attempt); });
  return id;
}

void Supervisor::Impl::begin(const OpenAttemptPtr& attempt) {
  LOAM_CRASH_POINT("node.attempt_committed");
  if (attempt->ended) return;
  if (auto made = make_folder(*attempt); !made) return fail_start(attempt, made.error());
  LOAM_CRASH_POINT("node.folder_made");
  if (!attempt->prepare_folder) return launch(attempt);
  auto outcome = std::make_shared<Result<void>>();
  loop.offload([attempt, outcome] { *outcome = attempt->prepare_folder(attempt->folder); },
               guarded([this, attempt, outcome] {
                 attempt->prepare_folder = nullptr;
                 *outcome ? launch(attempt) : fail_start(attempt, outcome->error());
               }));
}

Result<void> Supervisor::Impl::make_folder(OpenAttempt& attempt) {
  if (::mkdir(attempt.folder.c_str(), 0700) != 0) return fail_errno(attempt.folder);
  if (::mkdir((attempt.folder + "/output").c_str(), 0700) != 0)
    return fail_errno(attempt.folder + "/output");
  attempt.lock = LOAM_TRY(take_lock(attempt.folder, true));
  return {};
}

void Supervisor::Impl::launch(const OpenAttemptPtr& attempt) {
  if (attempt->ended) return;
  if (attempt->stop_reason)  // cancelled while the folder was prepared
    return finish(attempt,
                  record_of(*attempt, *attempt->stop_reason, "ended before it was started"), false);
  auto group =
      sandbox::create_cgroup(context.cgroups, std::to_string(attempt->id), attempt->limits);
  if (!group) return fail_start(attempt, group.error());
  attempt->cgroup = std::move(*group);
  LOAM_CRASH_POINT("node.cgroup_made");
  attempt->plan->cgroup = plan_of(attempt->cgroup);
  const auto written =
      write_file_atomic(attempt->folder + "/plan.json", api::to_json(*attempt->plan).dump(),
                        {.mode = 0600, .durable = false});
  if (!written) return fail_start(attempt, written.error());
  if (auto spawned = spawn_shim(attempt); !spawned) return fail_start(attempt, spawned.error());
  attempt->plan.reset();
  LOAM_CRASH_POINT("node.shim_started");
}

Result<void> Supervisor::Impl::spawn_shim(const OpenAttemptPtr& attempt) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    return fail_errno("socketpair");
  Fd ours(pair[0]);
  const Fd theirs(pair[1]);
  const Fd log = LOAM_TRY(
      open_file(attempt->folder + "/shim.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  auto shim = shims.fork({attempt->folder, swapped_ids(*attempt->plan)},
                         {attempt->lock.get(), theirs.get(), log.get()});
  if (!shim && shim.error().code != ErrorCode::io) return tl::unexpected(shim.error());
  attempt->lock
      .reset();  // the shim's alone from here on: our copy would make a dead shim look alive
  if (!shim) {
    // There may be a shim that nobody told us of; only the lock can say.
    log_error("attempt " + std::to_string(attempt->id) + ": " + shim.error().text);
    shim_gone(attempt);
    return {};
  }
  attempt->pid = shim->pid();
  attempt->pidfd = shim->release_pidfd();
  connected(attempt, std::move(ours));
  return {};
}

void Supervisor::Impl::fail_start(const OpenAttemptPtr& attempt, const Error& error) {
  if (attempt->ended) return;
  finish(attempt, record_of(*attempt, api::Outcome::failed_to_start, error.text), false);
}

}  // namespace loam::node
