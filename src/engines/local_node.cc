#include "engines/local_node.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/clock.h"
#include "base/files.h"
#include "base/process.h"
#include "base/text.h"

namespace loam::engines {
namespace {

constexpr std::int64_t kStartLimitNs = 30'000'000'000;    // until a started node listens
constexpr std::int64_t kAfterEndLimitNs = 2'000'000'000;  // another starter's node may be coming up
constexpr int kStartPollMs = 10;
constexpr std::size_t kSaidBytesMax = 64u << 10;

Result<Fd> connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return fail(ErrorCode::invalid, "the socket's path '" + path +
                                        "' is longer than the system allows (107 bytes); "
                                        "set LOAM_RUNTIME_DIR to a shorter folder");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno("socket");
  int result = 0;
  do {
    result = ::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  } while (result != 0 && errno == EINTR);
  if (result != 0) {
    if (errno == EACCES || errno == EPERM) return fail_errno("no right to use the node at " + path);
    return fail(ErrorCode::unavailable, "no node listens at " + path);
  }
  return socket;
}

ErrorCode code_named(std::string_view name, int status) {
  for (const auto code :
       {ErrorCode::invalid, ErrorCode::not_found, ErrorCode::exists, ErrorCode::denied,
        ErrorCode::unavailable, ErrorCode::busy, ErrorCode::full, ErrorCode::too_large,
        ErrorCode::cancelled, ErrorCode::corrupt, ErrorCode::io})
    if (error_code_name(code) == name) return code;
  if (status == 404) return ErrorCode::not_found;
  if (status == 400 || status == 422) return ErrorCode::invalid;
  return ErrorCode::io;
}

// Each line by itself, so that a text of several lines stays one.
std::string printable_lines(std::string_view text) {
  std::vector<std::string> lines = split(text, '\n');
  for (std::string& line : lines) line = printable(line);
  return join(lines, "\n");
}

std::string this_program() {
  std::string path(4096, '\0');
  const ssize_t count = ::readlink("/proc/self/exe", path.data(), path.size());
  if (count <= 0) return "/proc/self/exe";
  path.resize(static_cast<std::size_t>(count));
  return path_exists(path) ? path : "/proc/self/exe";  // replaced while it runs: still itself
}

// The last lines that a node wrote before it ended.
std::string said(int fd) {
  ::lseek(fd, 0, SEEK_SET);
  const auto text = read_fd(fd, kSaidBytesMax);
  return text ? printable_lines(trim(*text)) : "";
}

struct Started {
  Child child;
  Fd said;  // its standard output and error until it has a log of its own
};

Result<Started> start_node(const std::vector<std::string>& command) {
  Started started;
  started.said = Fd(::memfd_create("loam-node-start", MFD_CLOEXEC));
  if (!started.said) return fail_errno("memfd_create");
  SpawnOptions options;
  const unsigned uid = ::geteuid();
  options.argv = !command.empty()
                     ? command
                     : start_command(this_program(), uid, from_environment,
                                     read_start_facts(uid, from_environment));
  options.directory = "/";
  options.standard_output = started.said.get();
  options.standard_error = started.said.get();
  options.own_session = true;
  options.before_exec = [] {
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    for (const int number : {SIGPIPE, SIGINT, SIGHUP, SIGTERM, SIGQUIT}) ::signal(number, SIG_DFL);
    return 0;
  };
  started.child = LOAM_TRY(spawn(options));
  return started;
}

bool has_ended(const Child& child) {
  pollfd poll_fd{child.pidfd(), POLLIN, 0};
  return ::poll(&poll_fd, 1, 0) == 1;
}

}  // namespace

Error error_of(const Response& response) {
  const Json& error = response.body["error"];
  const std::string text = printable_lines(error["text"].as_string());
  return {code_named(error["code"].as_string(), response.status),
          text.empty() ? "the node answered with status " + std::to_string(response.status) : text};
}

Result<void> await_readable(int fd, const Wake* wake) {
  pollfd polls[2] = {{fd, POLLIN, 0}, {wake != nullptr ? wake->fd : -1, POLLIN, 0}};
  for (;;) {
    if (::poll(polls, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return fail_errno("poll");
    }
    if (polls[1].revents != 0 && !wake->ready()) return fail(ErrorCode::cancelled, "interrupted");
    if (polls[0].revents != 0) return {};
  }
}

Result<Fd> LocalNode::connect() const { return connect_to(socket_); }

Result<Exchange> LocalNode::send(const HttpRequest& request) const {
  return Exchange::start(LOAM_TRY(connect_to(socket_)), request);
}

Result<Exchange> LocalNode::open(std::string_view method, const std::string& target,
                                 const Json& body) const {
  return send({.method = std::string(method),
               .target = target,
               .body = body.is_null() ? "" : body.dump(),
               .upgrade = ""});
}

Result<Exchange> LocalNode::open_upgrade(const std::string& target,
                                         std::string_view protocol, const Json& body) const {
  return send({.method = "POST",
               .target = target,
               .body = body.is_null() ? "" : body.dump(),
               .upgrade = std::string(protocol)});
}

Result<Response> LocalNode::request(std::string_view method, const std::string& target,
                                    const Json& body, const Wake* wake) const {
  Exchange exchange = LOAM_TRY(open(method, target, body));
  std::string text;
  for (bool complete = false; !complete;) {
    LOAM_CHECK(await_readable(exchange.fd(), wake));
    complete = LOAM_TRY(exchange.read(text));
    if (text.size() > kAnswerBytesMax)
      return fail(ErrorCode::too_large,
                  "the node's answer is over " + format_size(kAnswerBytesMax));
  }
  Response response{exchange.head().status, {}};
  if (trim(text).empty()) return response;
  auto parsed = Json::parse(text);
  if (parsed) {
    response.body = std::move(*parsed);
  } else if (response.ok()) {
    return in_context("the node's answer", std::move(parsed.error()));
  }
  return response;
}

Result<Json> LocalNode::call(std::string_view method, const std::string& target, const Json& body,
                             const Wake* wake) const {
  Response response = LOAM_TRY(request(method, target, body, wake));
  if (!response.ok()) return tl::unexpected(error_of(response));
  return std::move(response.body);
}

Result<void> LocalNode::stream(std::string_view method, const std::string& target, const Json& body,
                               const std::function<bool(std::string_view)>& on_bytes,
                               const Wake* wake) const {
  Exchange exchange = LOAM_TRY(open(method, target, body));
  std::string refused;
  for (bool complete = false; !complete;) {
    LOAM_CHECK(await_readable(exchange.fd(), wake));
    std::string bytes;
    complete = LOAM_TRY(exchange.read(bytes));
    if (bytes.empty()) continue;
    if (exchange.head().status / 100 != 2) {
      refused += bytes;
      if (refused.size() > kAnswerBytesMax) break;
    } else if (!on_bytes(bytes)) {
      return {};
    }
  }
  if (exchange.head().status / 100 == 2) return {};
  auto parsed = Json::parse(refused);
  return tl::unexpected(error_of({exchange.head().status, parsed ? std::move(*parsed) : Json()}));
}

std::vector<std::string> socket_candidates(unsigned uid, const Lookup& environment) {
  if (const auto runtime = environment("LOAM_RUNTIME_DIR")) return {*runtime + "/node.sock"};
  std::vector<std::string> candidates{"/run/loam/node.sock"};
  if (uid == 0) return candidates;
  if (const auto runtime = environment("XDG_RUNTIME_DIR")) {
    candidates.push_back(*runtime + "/loam/node.sock");
  } else if (const auto state = environment("LOAM_STATE_DIR")) {
    candidates.push_back(*state + "/run/node.sock");
  } else if (const auto xdg_state = environment("XDG_STATE_HOME")) {
    candidates.push_back(*xdg_state + "/loam/run/node.sock");
  } else if (const auto home = environment("HOME")) {
    candidates.push_back(*home + "/.local/state/loam/run/node.sock");
  }
  return candidates;
}

Result<LocalNode> find_node() {
  const auto candidates = socket_candidates(::geteuid(), from_environment);
  for (const std::string& path : candidates) {
    auto socket = connect_to(path);
    if (socket) return LocalNode(path);
    const bool is_last = &path == &candidates.back();
    if (is_last && socket.error().code != ErrorCode::unavailable)
      return tl::unexpected(std::move(socket.error()));
  }
  return fail(ErrorCode::unavailable, "no node listens at " + join(candidates, " or "));
}

Result<LocalNode> find_or_start_node(const StartOptions& options) {
  auto found = find_node();
  if (found || found.error().code != ErrorCode::unavailable) return found;
  Started started = LOAM_TRY(start_node(options.command));
  std::int64_t limit_ns = steady_ns() + kStartLimitNs;
  for (bool ended = false; steady_ns() < limit_ns;) {
    found = find_node();
    if (found) {
      if (options.on_started) options.on_started("started a node at " + found->socket());
      if (!ended) started.child.release();  // it outlives this program
      return found;
    }
    // A daemon's parent ends well once its child listens; a failure may mean that another was
    // faster.
    if (!ended && has_ended(started.child)) {
      ended = true;
      limit_ns = std::min(limit_ns, steady_ns() + kAfterEndLimitNs);
    }
    ::poll(nullptr, 0, kStartPollMs);
  }
  const std::string text = said(started.said.get());
  return fail(ErrorCode::unavailable, "the node did not start" + (text.empty() ? "" : ": " + text));
}

}  // namespace loam::engines
