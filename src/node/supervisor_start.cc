// From the commit to the shim (recovery.md, "Order of a start"). Each step leaves what tells a
// restarted node how far the start came; so nothing here needs an fsync: after a power cut the boot
// id says it all.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "base/clock.h"
#include "base/crash_point.h"
#include "base/files.h"
#include "node/supervisor_impl.h"

namespace loam::node {
namespace {

constexpr int kShimLockFd = 3;
constexpr int kShimNodeFd = 4;

// Above the numbers that the shim gets, so that no dup2 overwrites a later source.
Result<Fd> raised(const Fd& fd) {
  Fd high(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 10));
  if (!high) return fail_errno("dup");
  return high;
}

// posix_spawn and not fork: it shares our memory until exec, so that its cost does not grow with
// the node.
struct SpawnPlan {
  SpawnPlan() {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setsigdefault(&attributes, &all);
    ::posix_spawnattr_setflags(
        &attributes,
        static_cast<short>(POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF));
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;
  ~SpawnPlan() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

api::CgroupPlan plan_of(const sandbox::CgroupPaths& paths) { return {paths.v2, paths.v1}; }

}  // namespace

AttemptId Supervisor::start(JobId job, api::AttemptPlan plan, const sandbox::CgroupLimits& limits,
                            std::function<Result<void>(const std::string& folder)> prepare_folder) {
  Impl& impl = *impl_;
  const auto last = impl.db.query("SELECT max(number) FROM attempts WHERE job = ?", {job});
  const AttemptId id = impl.db.insert(
      "INSERT INTO attempts (job, number, state, boot, cgroup, created_ms) VALUES (?, ?, "
      "'starting', ?, ?, ?)",
      {job, last[0].integer(0) + 1, impl.boot, sandbox::to_json(impl.context.cgroups).dump(),
       wall_ms()});
  auto attempt = std::make_shared<OpenAttempt>();
  attempt->id = id;
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
  const Fd theirs = LOAM_TRY(raised(Fd(pair[1])));
  const Fd lock = LOAM_TRY(raised(attempt->lock));
  const Fd low_log = LOAM_TRY(
      open_file(attempt->folder + "/shim.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  const Fd log = LOAM_TRY(raised(low_log));

  SpawnPlan plan;
  ::posix_spawn_file_actions_addopen(&plan.actions, 0, "/dev/null", O_RDWR, 0);
  ::posix_spawn_file_actions_adddup2(&plan.actions, 0, 1);
  ::posix_spawn_file_actions_adddup2(&plan.actions, log.get(), 2);
  ::posix_spawn_file_actions_adddup2(&plan.actions, lock.get(), kShimLockFd);
  ::posix_spawn_file_actions_adddup2(&plan.actions, theirs.get(), kShimNodeFd);
  std::string arguments[] = {shim, attempt->folder, "--lock=" + std::to_string(kShimLockFd),
                             "--node=" + std::to_string(kShimNodeFd)};
  char* argv[] = {arguments[0].data(), arguments[1].data(), arguments[2].data(),
                  arguments[3].data(), nullptr};
  std::vector<char*> environment;
  for (std::string& variable : shim_environment) environment.push_back(variable.data());
  environment.push_back(nullptr);

  pid_t pid = -1;
  const int failed =
      ::posix_spawn(&pid, shim.c_str(), &plan.actions, &plan.attributes, argv, environment.data());
  if (failed != 0) return fail_errno(shim, failed);
  attempt->pid = pid;
#ifdef LOAM_CRASH_POINTS
  // A crash point's first passage is the first shim's: the attempt after the lost one must get
  // through.
  std::erase_if(shim_environment, [](const std::string& variable) {
    return variable.starts_with("LOAM_CRASH_AT=shim.") && variable.find(':') == std::string::npos;
  });
#endif
  // It cannot be gone: we have not reaped it. Only descriptors can be out: then it stays a zombie
  // until we end.
  attempt->pidfd = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!attempt->pidfd) attempt->pid = -1;
  attempt->lock
      .reset();  // the shim's alone from here on: our copy would make a dead shim look alive
  connected(attempt, std::move(ours));
  return {};
}

void Supervisor::Impl::fail_start(const OpenAttemptPtr& attempt, const Error& error) {
  if (attempt->ended) return;
  finish(attempt, record_of(*attempt, api::Outcome::failed_to_start, error.text), false);
}

}  // namespace loam::node
