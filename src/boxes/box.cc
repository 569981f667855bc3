#include "boxes/box.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "base/files.h"
#include "base/text.h"
#include "boxes/message.h"
#include "boxes/relay.h"
#include "engines/service_manager.h"

namespace loam::boxes {
namespace {

constexpr int kBacklog = 64;

// Short, for a socket's path has at most 107 bytes; for this user alone.
Result<std::string> make_folder() {
  const auto runtime = engines::from_environment("XDG_RUNTIME_DIR");
  for (const std::string& parent : {runtime.value_or(""), std::string("/tmp")}) {
    if (!parent.starts_with('/') || parent.size() > 60) continue;
    std::string pattern = parent + "/loam-box-XXXXXX";
    if (::mkdtemp(pattern.data()) != nullptr) return pattern;
  }
  return fail_errno("a folder for the box's sockets");
}

Result<Fd> listen_at(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  LOAM_ASSERT(path.size() < sizeof address.sun_path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail_errno("socket");
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(socket.get(), kBacklog) != 0)
    return fail_errno(path);
  return socket;
}

bool can_ask() { return ::isatty(STDIN_FILENO) == 1 && ::isatty(STDERR_FILENO) == 1; }

}  // namespace

Result<Box> Box::connect(const Address& address) {
  Box box;
  box.address_ = address;
  if (auto started = box.start_relay(); !started)
    return in_context("box " + address.name, started.error());
  return box;
}

Result<void> Box::start_relay() {
  folder_ = LOAM_TRY(make_folder());
  RelayOptions options;
  options.node_listener = LOAM_TRY(listen_at(folder_ + "/node.sock"));
  options.files_listener = LOAM_TRY(listen_at(folder_ + "/files.sock"));
  options.command = ssh_command(address_, {.batch = !can_ask()});
  options.reconnect = ssh_command(address_, {.batch = true});
  options.show_errors = can_ask();
  Pipe lifeline = LOAM_TRY(make_pipe());
  Pipe report = LOAM_TRY(make_pipe());
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno("fork");
  if (pid == 0) {
    lifeline_.reset();
    lifeline.write_end.reset();
    report.read_end.reset();
    options.lifeline = std::move(lifeline.read_end);
    options.report = std::move(report.write_end);
    run_relay(std::move(options));
    (void)remove_tree(folder_);
    ::_exit(0);
  }
  relay_ = Child(pid, Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))));
  lifeline_ = std::move(lifeline.write_end);
  report.write_end.reset();
  hello_ = LOAM_TRY(read_message(report.read_end.get()));
  if (hello_.has("error")) return tl::unexpected(engines::error_of({0, hello_}));
  return {};
}

Box::~Box() {
  if (!relay_.valid()) return;
  lifeline_.reset();  // the relay removes its folder and ends
  (void)relay_.wait();
}

}  // namespace loam::boxes
