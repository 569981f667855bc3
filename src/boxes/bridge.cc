#include "boxes/bridge.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "base/files.h"
#include "base/process.h"
#include "boxes/hello.h"
#include "boxes/kept_projects.h"
#include "boxes/mux.h"
#include "boxes/pump.h"
#include "boxes/unavailable.h"
#include "engines/local_node.h"
#include "engines/way_to_registries.h"

namespace loam::boxes {
namespace {

struct SocketPair {
  Fd near, far;
};

Result<SocketPair> make_socket_pair() {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
    return fail_errno("socketpair");
  return SocketPair{Fd(pair[0]), Fd(pair[1])};
}

bool has_ended(const Child& child) {
  pollfd poll_fd{child.pidfd(), POLLIN, 0};
  return ::poll(&poll_fd, 1, 0) == 1;
}

class Bridge {
 public:
  Bridge() : mux_([this](std::string_view service) { return open(service); }) {}

  Result<void> run() {
    LOAM_CHECK(set_nonblocking(STDIN_FILENO));
    LOAM_CHECK(set_nonblocking(STDOUT_FILENO));
    mux_.out() = hello_line(hello());
    std::vector<pollfd> polls;
    for (;;) {
      polls = {{STDIN_FILENO, static_cast<short>(mux_.out().size() < kOutBytesMax ? POLLIN : 0), 0},
               {mux_.out().empty() ? -1 : STDOUT_FILENO, POLLOUT, 0}};
      mux_.add_polls(polls);
      if (::poll(polls.data(), polls.size(), -1) < 0) continue;
      mux_.handle(polls.data() + 2);
      if (polls[0].revents != 0 && !LOAM_TRY(pump_in(STDIN_FILENO, [this](std::string_view bytes) {
            return mux_.receive(bytes);
          })))
        return {};
      LOAM_CHECK(pump_out(STDOUT_FILENO, mux_.out()));
    }
  }

 private:
  static Json hello() {
    Json document = Json::object({{"version", LOAM_VERSION}});
    engines::StartOptions options;
    bool started = false;
    options.on_started = [&](const std::string&) { started = true; };
    const auto node = engines::find_or_start_node(options);
    const auto folder = kept_projects_folder();
    if (!node || !folder) {
      document.set("error", node ? folder.error().text : node.error().text);
      return document;
    }
    document.set("socket", node->socket());
    document.set("started", started);
    document.set("projects", *folder);
    document.set("home", home_folder());
    document.set("proxy_environment", engines::way_to_registries());
    return document;
  }

  Result<Fd> open(std::string_view service) {
    if (service == kNodeService) return open_node();
    if (service == kFilesService) return open_files();
    return fail(ErrorCode::not_found, "no such service");
  }

  // A node that is gone answers as one that could not be reached here: the client waits for it, or
  // says so.
  static Result<Fd> open_node() {
    const auto node = engines::find_node();
    auto connected = node ? node->connect() : tl::unexpected(node.error());
    if (connected) return connected;
    SocketPair pair = LOAM_TRY(make_socket_pair());
    LOAM_CHECK(write_full(pair.far.get(), unavailable_answer(connected.error().text)));
    return std::move(pair.near);
  }

  Result<Fd> open_files() {
    std::erase_if(receivers_, has_ended);
    SocketPair pair = LOAM_TRY(make_socket_pair());
    SpawnOptions options;
    options.argv = {"/proc/self/exe", std::string(kReceiveWord)};
    options.standard_input = pair.far.get();
    options.standard_output = STDERR_FILENO;  // ours is the session's
    receivers_.push_back(LOAM_TRY(spawn(options)));
    return std::move(pair.near);
  }

  Mux mux_;
  std::vector<Child> receivers_;  // killed with the bridge: what they had begun is begun anew
};

}  // namespace

int bridge_main() {
  ::signal(SIGPIPE, SIG_IGN);
  const auto done = Bridge().run();
  if (done) return 0;
  (void)write_full(STDERR_FILENO, "loam: " + done.error().text + "\n");
  return 1;
}

}  // namespace loam::boxes
