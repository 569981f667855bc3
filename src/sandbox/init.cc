#include "sandbox/init.h"

#include <dirent.h>
#include <linux/keyctl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/packet.h"
#include "base/process.h"
#include "sandbox/cpuset.h"
#include "sandbox/filter.h"
#include "sandbox/join.h"
#include "sandbox/lane.h"
#include "sandbox/root.h"
#include "sandbox/signals.h"
#include "sandbox/terminal.h"
#include "sandbox/user_process.h"

namespace loam::sandbox {
namespace {

// "0" is this thread; a pid, or cgroup.procs, takes the kernel 7 to 18 ms on an idle machine (41 µs
// so).
Result<void> join_v1_groups(const std::vector<int>& tasks) {
  for (const int fd : tasks)
    if (::write(fd, "0", 1) != 1) return fail_errno("join the v1 cgroup");
  return {};
}

Result<void> isolate(const InitParts& parts) {
  const Spec& spec = parts.spec;
  LOAM_CHECK(join_v1_groups(parts.v1_tasks));
  if (parts.bind_cpus) LOAM_CHECK(bind_this_thread(spec.cpu_set));
  LOAM_CHECK(mount_stage(spec, parts.sources));
  if (spec.own_network) LOAM_CHECK(bring_loopback_up());
  if (::sethostname(spec.hostname.data(), spec.hostname.size()) != 0)
    return fail_errno("sethostname");
  // The caller's session keyring would be the job's, by possession. No keyrings in this kernel:
  // none to leave.
  (void)::syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr);
  return {};
}

Result<void> drop(const Spec& spec) {
  LOAM_CHECK(drop_to_user(spec.ids));
  // After the change of ids, which clears it; before the first fork, for a job of the same uid
  // could ptrace this process and read the keeper's memory in it.
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return fail_errno("PDEATHSIG");
  if (::prctl(PR_SET_DUMPABLE, 0) != 0) return fail_errno("DUMPABLE");
  bool refuse_set_id = false;
  for (const Bind& bind : spec.binds)
    refuse_set_id = refuse_set_id || (bind.writable && bind.root_is_user);
  return load_filter({.refuse_set_id = refuse_set_id});
}

// ---- pid 1 ----

bool wait_for_go(int control) {
  ControlPacket packet;
  for (;;) {
    const ssize_t got = ::recv(control, &packet, sizeof packet, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got != sizeof packet) return false;
    if (packet.kind == Control::go) return true;
    if (packet.kind == Control::terminate) return false;
  }
}

// The processes that were started, and what became of them.
struct Users {
  struct User {
    pid_t pid = 0;
    bool ended = false;
  };
  std::vector<User> all;  // one, or one for each rank
  std::size_t left = 0;
  std::optional<int> failed;  // status of the first that did not end with 0
  std::vector<std::pair<pid_t, std::uint32_t>> joined;  // and the session of each
};

void obey(const ControlPacket& packet, const Users& users, int control) {
  if (packet.kind == Control::terminate) {
    ::kill(-1, SIGTERM);
    ::kill(-1, SIGCONT);
  }
  if (packet.kind == Control::kill) ::kill(-1, SIGKILL);
  if (packet.number == 0 || packet.number >= NSIG) return;
  if (packet.kind == Control::signal_group)
    for (const Users::User& user : users.all)
      if (!user.ended) ::kill(-user.pid, packet.number);
  if (packet.kind == Control::signal_catching) {
    const InitPacket answer{.kind = 's', .status = signal_catching(packet.number)};
    (void)::send(control, &answer, sizeof answer, MSG_NOSIGNAL);
  }
  if (packet.kind == Control::session_signal)
    for (const auto& [pid, session] : users.joined)
      if (session == packet.session) {
        // Before it has a session of its own it has no group either.
        if (::kill(-pid, packet.number) != 0) ::kill(pid, packet.number);
        ::kill(-pid, SIGCONT);
      }
}

void tell_session_end(std::uint32_t session, int status, int control) {
  const InitPacket packet{.kind = 'x', .status = status, .session = session};
  (void)::send(control, &packet, sizeof packet, MSG_NOSIGNAL);
}

void join(const InitParts& parts, const ControlPacket& packet, std::string_view bytes,
          const std::vector<Fd>& descriptors, Users& users) {
  const auto pid = start_joined(parts, packet.session, bytes, descriptors);
  if (pid) return users.joined.emplace_back(*pid, packet.session), void();
  // As a command that could not be executed.
  tell_session_end(packet.session, 126 << 8, parts.control);
}

// False where none that joined has this pid.
bool note_joined_end(Users& users, pid_t ended, int status, int control) {
  const auto found = std::find_if(users.joined.begin(), users.joined.end(),
                                  [&](const auto& entry) { return entry.first == ended; });
  if (found == users.joined.end()) return false;
  tell_session_end(found->second, status, control);
  users.joined.erase(found);
  return true;
}

// False where it is none of the users.
bool note_end(Users& users, pid_t ended, int status, int control) {
  for (std::size_t i = 0; i < users.all.size(); ++i) {
    Users::User& user = users.all[i];
    if (user.pid != ended || user.ended) continue;
    user.ended = true;
    --users.left;
    if (status != 0 && !users.failed) users.failed = status;
    const InitPacket packet{
        .kind = 'r', .status = status, .rank = static_cast<std::int32_t>(i)};
    if (users.all.size() > 1) (void)::send(control, &packet, sizeof packet, MSG_NOSIGNAL);
    return true;
  }
  return false;
}

// Reaps; ends this process, and with it the whole pid namespace, once the user's process has ended,
// and all of a gang's.
void reap(Users& users, int control, bool all_killed) {
  int status = 0;
  pid_t ended = 0;
  while ((ended = ::waitpid(-1, &status, WNOHANG)) > 0) {
    if (WIFSTOPPED(status)) let_go_on(ended, status);
    if (WIFSTOPPED(status) || note_joined_end(users, ended, status, control) ||
        !note_end(users, ended, status, control)) continue;
    if (users.left > 0 && !all_killed) continue;
    // After a kill of all, the others are about to end too: reaped here, their sizes count. The
    // keeper's patience bounds the wait.
    while (all_killed && ::waitpid(-1, nullptr, 0) > 0) {
    }
    rusage usage{};
    ::getrusage(RUSAGE_CHILDREN, &usage);
    const InitPacket packet{
        .kind = 'e', .status = users.failed.value_or(0), .largest_bytes = std::int64_t{usage.ru_maxrss} * 1024};
    (void)::send(control, &packet, sizeof packet, MSG_NOSIGNAL);
    ::_exit(0);
  }
}

// What obey() signals: of a lane the task that runs.
void look_at_task(const LaneTask& task, Users& users) {
  users.all.clear();
  if (task.running() != 0) users.all.push_back({.pid = task.running()});
}

[[noreturn]] void watch(const InitParts& parts, Users users, int signals) {
  const int control = parts.control;
  LaneTask task(parts);
  std::vector<char> buffer(kControlBytesMax);
  bool all_killed = false;
  for (;;) {
    pollfd polls[2] = {{control, POLLIN, 0}, {signals, POLLIN, 0}};
    if (::poll(polls, 2, -1) < 0 && errno != EINTR) ::_exit(127);
    if (polls[1].revents != 0) {
      signalfd_siginfo info;
      (void)!::read(signals, &info, sizeof info);
    }
    parts.spec.lane ? task.reap() : reap(users, control, all_killed);
    if (polls[0].revents == 0) continue;
    const ReceivedPacket received = receive_packet(control, buffer, MSG_DONTWAIT);
    const ssize_t got = received.size_bytes;
    // The keeper is gone; getppid would tell nothing inside a pid namespace.
    if (got == 0 || (got < 0 && errno != EAGAIN)) ::_exit(127);
    ControlPacket packet;
    if (got < static_cast<ssize_t>(sizeof packet) || received.truncated) continue;
    std::memcpy(&packet, buffer.data(), sizeof packet);
    const std::string_view more(buffer.data() + sizeof packet,
                                static_cast<std::size_t>(got) - sizeof packet);
    if (packet.kind == Control::join && !all_killed) join(parts, packet, more, received.descriptors, users);
    if (packet.kind == Control::connect) start_connection(control, packet);
    if (packet.kind == Control::task) task.start(more, received.descriptors);
    if (parts.spec.lane) look_at_task(task, users);
    obey(packet, users, control);
    all_killed = all_killed || packet.kind == Control::kill;
  }
}

void close_all_but(std::vector<int> kept) {
  std::sort(kept.begin(), kept.end());
  unsigned first = 0;
  for (const int fd : kept) {
    if (fd < 0) continue;
    const auto number = static_cast<unsigned>(fd);
    if (number > first) (void)::syscall(SYS_close_range, first, number - 1, 0);
    first = number + 1;
  }
  (void)::syscall(SYS_close_range, first, ~0U, 0);
}

UserProcess process_of(const InitParts& parts, int terminal, std::size_t rank) {
  UserProcess process{.spec = parts.spec,
                      .argv = parts.spec.argv,
                      .terminal = terminal,
                      .input = parts.input,
                      .output = parts.output,
                      .error = parts.error,
                      .secrets = parts.secrets,
                      .report = parts.report};
  if (parts.spec.ranks.empty()) return process;
  process.environment = parts.spec.ranks[rank].environment;
  process.cpus = parts.spec.ranks[rank].cpus;
  process.output = parts.rank_outputs[rank];
  return process;
}

}  // namespace

void let_go_on(pid_t tracee, int status) {
  const int number = WSTOPSIG(status);
  (void)::ptrace(PTRACE_DETACH, tracee, nullptr, number == SIGTRAP ? 0 : number);
}

[[noreturn]] void run_init(const InitParts& parts) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::prctl(PR_SET_NAME, "loam-init");
  if (auto done = isolate(parts); !done) give_up(parts.report, done.error());
  if (auto done = drop(parts.spec); !done) give_up(parts.report, done.error());
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_BLOCK, &all, nullptr);
  sigset_t child_ends;
  ::sigemptyset(&child_ends);
  ::sigaddset(&child_ends, SIGCHLD);
  const int signals = ::signalfd(-1, &child_ends, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals < 0) give_up(parts.report, fail_errno("signalfd").value());
  Fd terminal;
  if (parts.spec.terminal) {
    auto opened = open_terminal(parts.control, {.kind = 'm'});
    if (!opened) give_up(parts.report, opened.error());
    terminal = std::move(*opened);
  }
  if (!wait_for_go(parts.control)) ::_exit(0);
  Users users;
  users.left = parts.spec.lane ? 0 : std::max<std::size_t>(parts.spec.ranks.size(), 1);
  if (parts.spec.lane) (void)!::write(parts.report, &kStartedMark, 1);
  for (std::size_t rank = 0; rank < users.left; ++rank) {
    const pid_t user = ::fork();
    if (user < 0) give_up(parts.report, fail_errno("fork").value());
    if (user == 0) run_user_process(process_of(parts, terminal.get(), rank));
    users.all.push_back({.pid = user});
  }
  // The secrets for whoever joins; the job cannot look into this process, which is not dumpable.
  close_all_but({parts.control, signals, parts.secrets});
  watch(parts, std::move(users), signals);
}

}  // namespace loam::sandbox
