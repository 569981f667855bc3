#include "base/fork_server.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "base/files.h"
#include "base/packet.h"
#include "base/process.h"
#include "base/text.h"

namespace loam {
namespace {

constexpr int kSocketNumber = 3;
constexpr std::size_t kTitleBytes = 512;
constexpr int kReplySecondsMax = 10;  // a fork takes 0.1 ms

struct Reply {
  std::int32_t pid = -1;
  std::int32_t error = 0;
};

// Nothing: the starter is gone.
std::optional<ForkRequest> receive_request(int socket) {
  ssize_t size = 0;
  while ((size = ::recv(socket, nullptr, 0, MSG_PEEK | MSG_TRUNC)) < 0 && errno == EINTR) {
  }
  if (size <= 0) return std::nullopt;
  std::string text(static_cast<std::size_t>(size), '\0');
  ReceivedPacket received = receive_packet(socket, text);
  if (received.size_bytes != size) return std::nullopt;
  ForkRequest request;
  request.descriptors = std::move(received.descriptors);
  request.arguments = split(text, '\0');
  request.arguments.pop_back();  // each ends with a zero
  return request;
}

// The child is the server's sibling, and ends with the server's own signal to the parent that they share (clone(2)).
pid_t clone_sibling() {
  clone_args arguments{};
  arguments.flags = CLONE_PARENT;
  return static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof arguments));
}

// Whatever the starter had ignored or blocked is not its children's (nohup, a daemon's SIGPIPE).
void reset_signals() {
  for (int number = 1; number < NSIG; ++number) set_default_signal(number);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

void set_title(char* room, const std::vector<std::string>& arguments) {
  const std::string title = join(arguments, std::string(1, '\0')).substr(0, kTitleBytes);
  std::memset(room, 0, kTitleBytes);
  std::memcpy(room, title.data(), title.size());
}

}  // namespace

ForkServer::ForkServer(std::vector<std::string> argv, std::vector<std::string> environment)
    : argv_(std::move(argv)),
      environment_(std::move(environment)),
      file_(::open(argv_.at(0).c_str(), O_PATH | O_CLOEXEC)) {}

// By its path where that still is the same file, for that becomes the process's name; else through our own descriptor,
// for the child has closed its copy before exec.
std::string ForkServer::program() const {
  struct stat ours {}, now {};
  if (!file_ || ::fstat(file_.get(), &ours) != 0) return argv_[0];
  const bool same = ::stat(argv_[0].c_str(), &now) == 0 && now.st_dev == ours.st_dev && now.st_ino == ours.st_ino;
  return same ? argv_[0] : "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(file_.get());
}

Result<void> ForkServer::start() {
  const std::lock_guard lock(mutex_);
  return start_locked();
}

void ForkServer::stop() {
  const std::lock_guard lock(mutex_);
  socket_.reset();
  server_ = Child();
}

Result<void> ForkServer::start_locked() {
  socket_.reset();
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return fail_errno("socketpair");
  Fd ours(ends[0]);
  const Fd theirs(ends[1]);
  const timeval limit{.tv_sec = kReplySecondsMax, .tv_usec = 0};
  if (::setsockopt(ours.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0) return fail_errno("SO_RCVTIMEO");
  const Fd null_fd = LOAM_TRY(open_file("/dev/null", O_RDWR));
  SpawnOptions options;
  options.argv = argv_;
  options.argv[0] = program();
  options.argv.push_back(std::to_string(kSocketNumber));
  options.argv.push_back(std::string(kTitleBytes, ' '));
  options.environment = environment_;
  options.directory = "/";
  options.standard_output = null_fd.get();
  options.descriptors = {{theirs.get(), kSocketNumber}};
  options.own_session = true;  // a terminal's Ctrl-C is its starter's matter
  auto spawned = spawn(options);
  if (!spawned) return fail(ErrorCode::unavailable, spawned.error().text);
  server_ = std::move(*spawned);
  socket_ = std::move(ours);
  return {};
}

Result<Child> ForkServer::fork(const std::vector<std::string>& arguments, const std::vector<int>& descriptors) {
  LOAM_ASSERT(!arguments.empty() && descriptors.size() <= kForkDescriptorsMax);
  std::string text;
  for (const std::string& argument : arguments) text.append(argument.c_str(), argument.size() + 1);
  if (text.size() > kForkRequestBytesMax)
    return fail(ErrorCode::too_large, arguments[0] + ": over " + format_size(kForkRequestBytesMax) + " of arguments");
  const std::lock_guard lock(mutex_);
  // A server that is gone is only found out by asking it.
  if (!socket_ || send_packet(socket_.get(), text, descriptors) < 0) {
    LOAM_CHECK(start_locked());
    if (send_packet(socket_.get(), text, descriptors) < 0) return fail_errno("ask " + argv_[0] + " to fork");
  }
  auto child = receive_child();
  if (!child && child.error().code == ErrorCode::io) socket_.reset();
  return child;
}

Result<Child> ForkServer::receive_child() {
  Reply reply;
  ssize_t got = 0;
  while ((got = ::recv(socket_.get(), &reply, sizeof reply, 0)) < 0 && errno == EINTR) {
  }
  if (got != sizeof reply)
    return fail(ErrorCode::io, argv_[0] + ": the process that forks ended, or did not answer");
  if (reply.pid < 0) return fail(ErrorCode::unavailable, fail_errno(argv_[0] + ": fork", reply.error).value().text);
  // Ours and not yet waited for: the number is still its own.
  Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, reply.pid, 0)));
  if (!pidfd) return fail_errno("pidfd_open");
  return Child(reply.pid, std::move(pidfd));
}

Result<std::optional<ForkRequest>> serve_forks(int argument_count, char** argv,
                                               const std::function<void(const ForkRequest&)>& before_fork) {
  if (argument_count < 3 || std::strlen(argv[argument_count - 1]) != kTitleBytes)
    return fail(ErrorCode::invalid, "started by hand: this process forks for the node alone");
  int number = -1;
  const char* const digits = argv[argument_count - 2];
  std::from_chars(digits, digits + std::strlen(digits), number);
  if (::fcntl(number, F_SETFD, FD_CLOEXEC) != 0) return fail_errno("the socket to the starter");
  Fd socket(number);
  reset_signals();
  while (auto request = receive_request(socket.get())) {
    if (before_fork) before_fork(*request);
    // Before the fork, so that the child has it as soon as its starter hears of it.
    set_title(argv[argument_count - 1], request->arguments);
    const pid_t pid = clone_sibling();
    if (pid == 0) return std::optional(std::move(*request));
    const int error = errno;
    set_title(argv[argument_count - 1], {});
    const Reply reply{.pid = pid, .error = error};
    if (::send(socket.get(), &reply, sizeof reply, MSG_NOSIGNAL) < 0) break;
  }
  return std::optional<ForkRequest>();
}

}  // namespace loam
