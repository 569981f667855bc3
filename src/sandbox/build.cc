// start_build:  caller ─fork─▶ keeper (real ids: mounts, then setns into the build's user
// namespace)
//                                └─fork─▶ pid 1 (namespaces pid, ipc, uts, net; reaps) ─fork─▶ the
//                                command
// The keeper mounts before it enters the user namespace: the mounts are then locked, so that the
// build's root cannot take "read-only" off them (mount_namespaces(7), "Restrictions").
#include "sandbox/build.h"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "base/files.h"
#include "sandbox/init.h"
#include "sandbox/mount.h"
#include "sandbox/root.h"
#include "sandbox/user_namespace.h"

namespace loam::sandbox {
namespace {

constexpr const char* kStage = "/tmp";
constexpr int kFirstPrivateFd = 3;

struct Keeper {
  const BuildCommand& command;
  int user_namespace;
  int errors;  // written to, then closed, by whoever fails before the exec; the exec closes it
};

[[noreturn]] void give_up(const Keeper& keeper, const Error& error) {
  (void)!::write(keeper.errors, error.text.data(), error.text.size());
  ::_exit(127);
}

std::uint64_t half_of_memory() {
  struct sysinfo info {};
  ::sysinfo(&info);
  return std::uint64_t{info.totalram} * info.mem_unit / 2;
}

Result<void> make_folder(const std::string& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) != 0) return fail_errno("mkdir " + path);
  if (::chmod(path.c_str(), mode) != 0) return fail_errno("chmod " + path);
  return {};
}

Result<Fd> open_lower(const Keeper& keeper) {
  auto lower =
      clone_tree(AT_FDCWD, keeper.command.root,
                 {.read_only = true, .recursive = false, .user_namespace = keeper.user_namespace});
  // Without idmapped mounts the tree's files show as nobody's: readable, and that is what most
  // steps need.
  if (!lower) return clone_tree(AT_FDCWD, keeper.command.root, {.read_only = true});
  return lower;
}

// The tree of an environment: overlaid, so that what the step changes vanishes with it.
Result<void> mount_tree(const Keeper& keeper, const Fd& lower) {
  LOAM_CHECK(make_folder("lower", 0755));
  LOAM_CHECK(attach(lower.get(), "lower"));
  LOAM_CHECK(make_folder("scratch/upper", 0755));
  LOAM_CHECK(make_folder("scratch/work", 0755));
  for (const char* path : {"scratch/upper", "scratch/work"})
    if (::chown(path, keeper.command.uids.first, keeper.command.gids.first) != 0)
      return fail_errno("chown");
  Parameters parameters{
      {"lowerdir", "lower"}, {"upperdir", "scratch/upper"}, {"workdir", "scratch/work"}};
  if (!in_initial_user_namespace()) parameters.emplace_back("userxattr", "");
  const Fd overlay = LOAM_TRY(new_filesystem("overlay", parameters));
  return attach(overlay.get(), "root");
}

Result<void> mount_host() {
  const Fd root = LOAM_TRY(new_tmpfs(16u << 20, 0755));
  LOAM_CHECK(attach(root.get(), "root"));
  return fill_host_root("root");
}

Result<void> mount_scratch_folder(int root, const std::string& from, const std::string& to) {
  LOAM_CHECK(make_folder(from, 01777));
  const Fd tree = LOAM_TRY(clone_tree(AT_FDCWD, from, {}));
  const Fd target = LOAM_TRY(make_in_root(root, to, TargetKind::folder));
  return attach(tree.get(), target.get());
}

// A resolver's file is often a link into /run, which the build does not see.
Result<void> carry_resolver(int root) {
  const auto content = read_file("/etc/resolv.conf");
  if (!content) return {};
  if (open_in_root(root, "/etc/resolv.conf")) return {};
  char link[256] = {};
  if (::readlink("/etc/resolv.conf", link, sizeof link - 1) <= 0) return {};
  const std::string target = link;
  const auto at = target.find("/run/");
  if (at == std::string::npos) return {};
  LOAM_CHECK(make_folder("scratch/resolver", 0755));
  const Fd file = LOAM_TRY(open_file("scratch/resolver/resolv.conf", O_WRONLY | O_CREAT, 0644));
  LOAM_CHECK(write_full(file.get(), *content));
  const Fd tree =
      LOAM_TRY(clone_tree(AT_FDCWD, "scratch/resolver/resolv.conf", {.read_only = true}));
  const Fd place = LOAM_TRY(make_in_root(root, target.substr(at), TargetKind::file));
  return attach(tree.get(), place.get());
}

Result<void> mount_system(const Keeper& keeper, int root) {
  // Put together aside: the tree's own /dev may be anything.
  const Fd dev = LOAM_TRY(new_tmpfs(1u << 20, 0755, {.devices = true}));
  LOAM_CHECK(attach(dev.get(), "dev"));
  LOAM_CHECK(fill_dev("dev"));
  const Fd dev_target = LOAM_TRY(make_in_root(root, "/dev", TargetKind::folder));
  LOAM_CHECK(attach(dev.get(), dev_target.get()));
  LOAM_CHECK(mount_scratch_folder(root, "scratch/tmp", "/tmp"));
  LOAM_CHECK(mount_scratch_folder(root, "scratch/var_tmp", "/var/tmp"));
  LOAM_CHECK(mount_scratch_folder(root, "scratch/run", "/run"));
  LOAM_CHECK(mount_scratch_folder(root, "scratch/shm", "/dev/shm"));
  if (keeper.command.network) LOAM_CHECK(carry_resolver(root));
  for (const std::string& path : keeper.command.hidden)
    LOAM_CHECK(mask(root, path, "scratch/empty", "scratch/empty_file"));
  for (const char* path : {"/proc", "/sys"}) {
    const Fd tree =
        LOAM_TRY(clone_tree(AT_FDCWD, path, {.read_only = std::string(path) == "/sys"}));
    const Fd target = LOAM_TRY(make_in_root(root, path, TargetKind::folder));
    LOAM_CHECK(attach(tree.get(), target.get()));
  }
  return {};
}

struct PreparedBind {
  Fd tree;
  TargetKind kind = TargetKind::folder;
};

// Taken before the stage covers /tmp, and while the paths can still be walked with the caller's
// rights.
Result<std::vector<PreparedBind>> open_binds(const BuildCommand& command) {
  std::vector<PreparedBind> opened;
  for (const BuildBind& bind : command.binds) {
    auto tree = clone_tree(AT_FDCWD, bind.from, {.read_only = !bind.writable});
    if (!tree) return in_context("bind " + bind.from, tree.error());
    const TargetKind kind = LOAM_TRY(kind_of(tree->get()));
    opened.push_back({std::move(*tree), kind});
  }
  return opened;
}

Result<void> mount_binds(const Keeper& keeper, int root, const std::vector<PreparedBind>& binds) {
  for (std::size_t i = 0; i < binds.size(); ++i) {
    const std::string& to = keeper.command.binds[i].to;
    const auto target = make_in_root(root, to, binds[i].kind);
    if (!target) return in_context("bind to " + to, target.error());
    if (auto attached = attach(binds[i].tree.get(), target->get()); !attached)
      return in_context("bind to " + to, attached.error());
  }
  return {};
}

Result<void> mount_all(const Keeper& keeper) {
  if (::unshare(CLONE_NEWNS) != 0) return fail_errno("unshare");
  LOAM_CHECK(make_private());
  const auto binds = LOAM_TRY(open_binds(keeper.command));
  const bool host = keeper.command.root.empty();
  Fd lower;
  if (!host) lower = LOAM_TRY(open_lower(keeper));
  const Fd stage = LOAM_TRY(new_tmpfs(16u << 20, 0755));
  LOAM_CHECK(attach(stage.get(), kStage));
  if (::chdir(kStage) != 0) return fail_errno("chdir");
  for (const char* name : {"root", "scratch", "dev"}) LOAM_CHECK(make_folder(name, 0755));
  const auto size = keeper.command.tmpfs_bytes > 0 ? keeper.command.tmpfs_bytes : half_of_memory();
  const Fd scratch = LOAM_TRY(new_tmpfs(size, 0755));
  LOAM_CHECK(attach(scratch.get(), "scratch"));
  LOAM_CHECK(make_folder("scratch/empty", 0755));
  const Fd empty_file = LOAM_TRY(open_file("scratch/empty_file", O_CREAT | O_WRONLY, 0644));
  LOAM_CHECK(host ? mount_host() : mount_tree(keeper, lower));
  const Fd root = LOAM_TRY(open_file("root", O_PATH | O_DIRECTORY));
  LOAM_CHECK(mount_system(keeper, root.get()));
  LOAM_CHECK(mount_binds(keeper, root.get(), binds));
  return change_root("root");
}

Result<void> enter_namespaces(const Keeper& keeper) {
  if (::setns(keeper.user_namespace, CLONE_NEWUSER) != 0)
    return fail_errno("join the build's user namespace");
  if (::setgroups(0, nullptr) != 0) return fail_errno("setgroups");
  if (::setresgid(0, 0, 0) != 0 || ::setresuid(0, 0, 0) != 0)
    return fail_errno("become the build's root");
  const int network = keeper.command.network ? 0 : CLONE_NEWNET;
  if (::unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | network) != 0)
    return fail_errno("unshare");
  if (!keeper.command.network) LOAM_CHECK(bring_loopback_up());
  if (::sethostname("build", 5) != 0) return fail_errno("sethostname");
  return {};
}

Result<void> mount_own_proc() {
  const Fd proc = LOAM_TRY(new_filesystem("proc", {}));
  LOAM_CHECK(attach(proc.get(), "/proc"));
  const Fd pts = LOAM_TRY(
      new_filesystem("devpts", {{"newinstance", ""}, {"ptmxmode", "0666"}, {"mode", "0620"}}));
  return attach(pts.get(), "/dev/pts");
}

[[noreturn]] void run_command(const Keeper& keeper) {
  const BuildCommand& command = keeper.command;
  std::vector<char*> argv, environment;
  std::vector<std::string> variables;
  for (const auto& [name, value] : command.environment) variables.push_back(name + "=" + value);
  for (const std::string& text : command.argv) argv.push_back(const_cast<char*>(text.c_str()));
  for (const std::string& text : variables) environment.push_back(const_cast<char*>(text.c_str()));
  argv.push_back(nullptr);
  environment.push_back(nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  ::setsid();
  if (::chdir(command.directory.c_str()) != 0)
    give_up(keeper, fail_errno("chdir " + command.directory).value());
  ::execvpe(argv[0], argv.data(), environment.data());
  give_up(keeper, fail_errno(command.argv[0]).value());
}

// Pid 1 of the build: its end is the kernel's signal to end everything else in the namespace.
[[noreturn]] void run_init(const Keeper& keeper) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    give_up(keeper, fail_errno("no_new_privs").value());
  if (auto mounted = mount_own_proc(); !mounted) give_up(keeper, mounted.error());
  const pid_t command = ::fork();
  if (command < 0) give_up(keeper, fail_errno("fork").value());
  if (command == 0) run_command(keeper);
  ::close(keeper.errors);
  (void)::syscall(SYS_close_range, 0, ~0U, 0);
  for (;;) {
    int status = 0;
    const pid_t ended = ::waitpid(-1, &status, 0);
    if (ended < 0 && errno != EINTR) ::_exit(127);
    if (ended > 0 && WIFSTOPPED(status)) {
      let_go_on(ended, status);
      continue;
    }
    if (ended == command)
      ::_exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
  }
}

// Standard streams in place, everything else of the caller closed: a build must not hold a lock or
// socket of the node for minutes.
void place_streams(Keeper& keeper) {
  const int output = keeper.command.standard_output, error = keeper.command.standard_error;
  int top = std::max({keeper.errors, keeper.user_namespace, output, error, 2}) + 1;
  const auto lift = [&](int fd) { return fd < 0 ? -1 : ::fcntl(fd, F_DUPFD_CLOEXEC, top); };
  const int high_output = lift(output), high_error = lift(error);
  const int high_errors = lift(keeper.errors), high_namespace = lift(keeper.user_namespace);
  const int null_fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(null_fd, 0);
  if (high_output >= 0) ::dup2(high_output, 1);
  if (high_error >= 0) ::dup2(high_error, 2);
  ::dup3(high_errors, kFirstPrivateFd, O_CLOEXEC);
  ::dup3(high_namespace, kFirstPrivateFd + 1, O_CLOEXEC);
  (void)::syscall(SYS_close_range, kFirstPrivateFd + 2, ~0U, 0);
  keeper.errors = kFirstPrivateFd;
  keeper.user_namespace = kFirstPrivateFd + 1;
}

[[noreturn]] void run_keeper(Keeper keeper, pid_t caller) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != caller) ::_exit(127);
  place_streams(keeper);
  ::umask(022);
  if (auto mounted = mount_all(keeper); !mounted) give_up(keeper, mounted.error());
  if (auto entered = enter_namespaces(keeper); !entered) give_up(keeper, entered.error());
  // The change of ids cleared it (prctl(2)); a caller that died in between is seen by its absence.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != caller) ::_exit(127);
  const pid_t init = ::fork();
  if (init < 0) give_up(keeper, fail_errno("fork").value());
  if (init == 0) run_init(keeper);
  ::close(keeper.errors);
  (void)::syscall(SYS_close_range, 0, ~0U, 0);
  int status = 0;
  while (::waitpid(init, &status, 0) < 0 && errno == EINTR) {
  }
  ::_exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

}  // namespace

Result<Child> start_build(const BuildCommand& command) {
  LOAM_ASSERT(!command.argv.empty());
  if (command.uids.first == 0 || command.gids.first == 0 || command.uids.count == 0 ||
      command.gids.count == 0)
    return fail(ErrorCode::invalid, "a build needs a range of ids of its own");
  const Fd user_namespace =
      LOAM_TRY(make_user_namespace({{0, command.uids.first, command.uids.count}},
                                   {{0, command.gids.first, command.gids.count}}));
  Pipe errors = LOAM_TRY(make_pipe());
  const pid_t caller = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno("fork");
  if (pid == 0) run_keeper({command, user_namespace.get(), errors.write_end.get()}, caller);
  errors.write_end.reset();
  Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) return fail_errno("pidfd_open");
  Child child(pid, std::move(pidfd));
  const std::string words = LOAM_TRY(read_fd(errors.read_end.get()));
  if (!words.empty()) {
    (void)child.wait();
    return fail(ErrorCode::unavailable, "build sandbox: " + words);
  }
  return child;
}

Result<void> give_folder(const std::string& path, const IdRange& uids, const IdRange& gids) {
  LOAM_CHECK(make_folders(path, 0700));
  const Fd folder = LOAM_TRY(open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if (::fchown(folder.get(), uids.first, gids.first) != 0) return fail_errno("chown " + path);
  if (::fchmod(folder.get(), 0700) != 0) return fail_errno("chmod " + path);
  return {};
}

}  // namespace loam::sandbox
