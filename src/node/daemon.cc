#include "node/daemon.h"

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/files.h"

namespace loam::node {
namespace {

constexpr off_t kLogBytesMax = 16 << 20;
constexpr char kReady = '+';

Daemonized wait_for_word(Fd pipe) {
  const auto word = read_fd(pipe.get(), 64 * 1024);
  if (word && !word->empty() && word->front() == kReady)
    return {.parent = true, .status = 0, .readiness = {}};
  const std::string text =
      word && !word->empty() ? *word : "the node ended before it listened; see its log";
  (void)write_full(STDERR_FILENO, "loam node: " + text + "\n");
  return {.parent = true, .status = 1, .readiness = {}};
}

}  // namespace

void tell_service_manager(const std::string& text) {
  const char* path = ::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path == nullptr || (path[0] != '/' && path[0] != '@') ||
      ::strlen(path) >= sizeof address.sun_path)
    return;
  const std::size_t length = ::strlen(path);
  ::memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = '\0';  // an abstract name
  const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return;
  (void)::sendto(socket.get(), text.data(), text.size(), MSG_NOSIGNAL,
                 reinterpret_cast<const sockaddr*>(&address),
                 static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length));
}

void Readiness::ready() {
  tell_service_manager("READY=1");
  if (pipe_) (void)write_full(pipe_.get(), std::string(1, kReady));
  pipe_.reset();
}

void Readiness::failed(const std::string& why) {
  if (pipe_) (void)write_full(pipe_.get(), why);
  pipe_.reset();
}

Result<Daemonized> daemonize() {
  Pipe word = LOAM_TRY(make_pipe());
  const Fd null = LOAM_TRY(open_file("/dev/null", O_RDWR));
  const pid_t first = ::fork();
  if (first < 0) return fail_errno("fork");
  if (first > 0) {
    word.write_end.reset();
    ::waitpid(first, nullptr, 0);
    return wait_for_word(std::move(word.read_end));
  }
  // A session without a terminal, and not its leader: no terminal can become ours.
  ::setsid();
  if (::fork() != 0) ::_exit(0);
  word.read_end.reset();
  for (const int stream : {0, 1, 2}) ::dup2(null.get(), stream);
  if (::chdir("/") != 0) return fail_errno("chdir /");
  Daemonized daemon;
  daemon.readiness = Readiness(std::move(word.write_end));
  return daemon;
}

Result<void> log_to(const std::string& path, const Identity& identity) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && status.st_size > kLogBytesMax)
    (void)::rename(path.c_str(), (path + ".1").c_str());
  const Fd log = LOAM_TRY(open_file(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600));
  if (identity.rootless && ::fchown(log.get(), identity.owner_uid, identity.owner_gid) != 0)
    return fail_errno(path);
  if (::dup2(log.get(), STDOUT_FILENO) < 0 || ::dup2(log.get(), STDERR_FILENO) < 0)
    return fail_errno("dup2");
  return {};
}

}  // namespace loam::node
