#include "sandbox/init.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

#include "base/files.h"
#include "base/json.h"
#include "sandbox/filter.h"
#include "sandbox/root.h"

namespace loam::sandbox {
namespace {

// What whoever started the node may have had ignored (nohup, a shell's background, timeout): a job starts
// as from a terminal. The raw call, since the C library keeps 32 and 33 to itself.
void set_default_signals() {
  struct {
    void* handler = nullptr;
    unsigned long flags = 0;
    void* restorer = nullptr;
    unsigned long mask = 0;
  } action;  // the kernel's own layout (rt_sigaction(2)), SIG_DFL
  for (const int number :
       {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM, SIGCHLD, SIGTTIN, SIGTTOU, 32, 33})
    ::syscall(SYS_rt_sigaction, number, &action, nullptr, sizeof action.mask);
}


constexpr std::size_t kSecretsBytesMax = 1u << 20;
constexpr const char* kDefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

[[noreturn]] void give_up(int report, const Error& error) {
  (void)!::write(report, error.text.data(), error.text.size());
  ::_exit(127);
}

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

// Opened with the user's ids, so that the terminal is the user's.
Result<Fd> open_terminal(int control) {
  Fd master(::open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!master) return fail_errno("open a terminal");
  int unlock = 0;
  if (::ioctl(master.get(), TIOCSPTLCK, &unlock) != 0) return fail_errno("unlock the terminal");
  Fd slave(::ioctl(master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!slave) return fail_errno("open the terminal's other end");
  InitPacket packet{.kind = 'm'};
  iovec part{&packet, sizeof packet};
  alignas(cmsghdr) char buffer[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = buffer;
  message.msg_controllen = sizeof buffer;
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  const int fd = master.get();
  ::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  if (::sendmsg(control, &message, MSG_NOSIGNAL) < 0) return fail_errno("hand over the terminal");
  return slave;
}

// ---- the user's process, between fork and exec ----

Result<void> add_secrets(int fd, std::vector<std::string>& variables) {
  if (fd < 0) return {};
  const std::string text = LOAM_TRY(read_fd(fd, kSecretsBytesMax));
  const Json secrets = LOAM_TRY(Json::parse(text));
  for (const auto& [name, value] : secrets.as_object())
    variables.push_back(name + "=" + value.as_string());
  return {};
}

Result<void> place_streams(const InitParts& parts, int terminal) {
  int input = parts.input, output = parts.output,
      error = parts.error >= 0 ? parts.error : parts.output;
  Fd null_fd;
  if (terminal >= 0) {
    input = output = error = terminal;
  } else if (input < 0) {
    null_fd = LOAM_TRY(open_file("/dev/null", O_RDONLY));
    input = null_fd.get();
  }
  // First above 2, so that no move overwrites a later source.
  const Fd high_input(::fcntl(input, F_DUPFD_CLOEXEC, 10)),
      high_output(::fcntl(output, F_DUPFD_CLOEXEC, 10)),
      high_error(::fcntl(error, F_DUPFD_CLOEXEC, 10));
  if (::dup2(high_input.get(), 0) < 0 || ::dup2(high_output.get(), 1) < 0 ||
      ::dup2(high_error.get(), 2) < 0)
    return fail_errno("place the standard streams");
  return {};
}

// The exec resets what is caught; only what the keeper ignores would stay so.
void reset_signals() {
  set_default_signals();
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

std::string why_not(const std::string& program, const std::string& path, int number) {
  if (number == ENOENT && program.find('/') == std::string::npos)
    return program + ": no such program in the environment (PATH is " + path + ")";
  if (number == ENOENT)
    return program +
           ": no such file in the environment, or its interpreter (the first line after #!) is not "
           "there";
  if (number == EACCES)
    return program + ": not executable (mend: chmod +x, or start it by its interpreter)";
  if (number == ENOEXEC)
    return program + ": not a program for this machine, and no script with a #! line";
  if (number == E2BIG) return program + ": arguments and environment are too large";
  return program + ": " + ::strerror(number);
}

Result<void> execute(const InitParts& parts, int terminal) {
  const Spec& spec = parts.spec;
  reset_signals();
  ::setsid();
  if (terminal >= 0 && ::ioctl(terminal, TIOCSCTTY, 0) != 0) return fail_errno("take the terminal");
  LOAM_CHECK(place_streams(parts, terminal));
  std::vector<std::string> variables;
  std::string path = kDefaultPath;
  for (const auto& [name, value] : spec.environment) {
    variables.push_back(name + "=" + value);
    if (name == "PATH") path = value;
  }
  LOAM_CHECK(add_secrets(parts.secrets, variables));
  if (::chdir(spec.directory.c_str()) != 0)
    return fail_errno("working directory " + spec.directory);
  std::vector<char*> argv, environment;
  for (const std::string& text : spec.argv) argv.push_back(const_cast<char*>(text.c_str()));
  for (const std::string& text : variables) environment.push_back(const_cast<char*>(text.c_str()));
  argv.push_back(nullptr);
  environment.push_back(nullptr);
  // Nothing of the keeper is inherited, whatever it forgot to mark (CVE-2024-21626 was such a one).
  const int report = ::fcntl(parts.report, F_DUPFD_CLOEXEC, 3);
  if (report != 3 && ::dup3(parts.report, 3, O_CLOEXEC) < 0) return fail_errno("dup");
  (void)::syscall(SYS_close_range, 4, ~0U, 0);
  (void)!::write(3, &kStartedMark, 1);
  ::setenv("PATH", path.c_str(), 1);  // execvpe looks here
  ::execvpe(argv[0], argv.data(), environment.data());
  const Error error{ErrorCode::not_found, why_not(spec.argv[0], path, errno)};
  give_up(3, error);
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

// SigCgt of /proc/PID/status: the signals that a handler waits for.
bool catches(const std::string& pid, int number) {
  const auto text = read_file("/proc/" + pid + "/status");
  if (!text) return false;
  const auto at = text->find("SigCgt:\t");
  if (at == std::string::npos) return false;
  std::uint64_t mask = 0;
  std::from_chars(text->data() + at + 8, text->data() + at + 24, mask, 16);
  return (mask >> (number - 1) & 1) != 0;
}

void signal_catching(int number) {
  const auto names = list_folder("/proc");
  if (!names) return;
  for (const std::string& name : *names) {
    const long pid = ::strtol(name.c_str(), nullptr, 10);
    if (pid > 1 && catches(name, number)) ::kill(static_cast<pid_t>(pid), number);
  }
}

void obey(const ControlPacket& packet, pid_t user) {
  if (packet.kind == Control::terminate) {
    ::kill(-1, SIGTERM);
    ::kill(-1, SIGCONT);
  }
  if (packet.kind == Control::kill) ::kill(-1, SIGKILL);
  if (packet.number == 0 || packet.number >= NSIG) return;
  if (packet.kind == Control::signal_group) ::kill(-user, packet.number);
  if (packet.kind == Control::signal_catching) signal_catching(packet.number);
}

// Reaps; ends this process, and with it the whole pid namespace, once the user's process has ended.
void reap(pid_t user, int control, bool all_killed) {
  int status = 0;
  pid_t ended = 0;
  while ((ended = ::waitpid(-1, &status, WNOHANG)) > 0) {
    if (ended != user) continue;
    // After a kill of all, the others are about to end too: reaped here, their sizes count. The
    // keeper's patience bounds the wait.
    while (all_killed && ::waitpid(-1, nullptr, 0) > 0) {
    }
    rusage usage{};
    ::getrusage(RUSAGE_CHILDREN, &usage);
    const InitPacket packet{
        .kind = 'e', .status = status, .largest_bytes = std::int64_t{usage.ru_maxrss} * 1024};
    (void)::send(control, &packet, sizeof packet, MSG_NOSIGNAL);
    ::_exit(0);
  }
}

[[noreturn]] void watch(pid_t user, int control, int signals) {
  bool all_killed = false;
  for (;;) {
    pollfd polls[2] = {{control, POLLIN, 0}, {signals, POLLIN, 0}};
    if (::poll(polls, 2, -1) < 0 && errno != EINTR) ::_exit(127);
    if (polls[1].revents != 0) {
      signalfd_siginfo info;
      (void)!::read(signals, &info, sizeof info);
    }
    reap(user, control, all_killed);
    if (polls[0].revents == 0) continue;
    ControlPacket packet;
    const ssize_t got = ::recv(control, &packet, sizeof packet, MSG_DONTWAIT);
    // The keeper is gone; getppid would tell nothing inside a pid namespace.
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) ::_exit(127);
    if (got != sizeof packet) continue;
    obey(packet, user);
    all_killed = all_killed || packet.kind == Control::kill;
  }
}

void close_all_but(int first, int second) {
  const int low = std::min(first, second), high = std::max(first, second);
  if (low > 0) (void)::syscall(SYS_close_range, 0, low - 1, 0);
  if (high > low + 1) (void)::syscall(SYS_close_range, low + 1, high - 1, 0);
  (void)::syscall(SYS_close_range, high + 1, ~0U, 0);
}

}  // namespace

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
    auto opened = open_terminal(parts.control);
    if (!opened) give_up(parts.report, opened.error());
    terminal = std::move(*opened);
  }
  if (!wait_for_go(parts.control)) ::_exit(0);
  const pid_t user = ::fork();
  if (user < 0) give_up(parts.report, fail_errno("fork").value());
  if (user == 0) {
    const auto failed = execute(parts, terminal.get());
    give_up(parts.report, failed.error());
  }
  close_all_but(parts.control, signals);
  watch(user, parts.control, signals);
}

}  // namespace loam::sandbox
