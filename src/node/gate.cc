#include "node/gate.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <utility>

#include "base/files.h"
#include "base/json.h"
#include "base/log.h"
#include "base/packet.h"
#include "base/process.h"
#include "base/text.h"
#include "node/gate_main.h"

namespace loam::node {
namespace {

constexpr int kBacklog = 128;
constexpr std::size_t kPemBytesMax = 48u << 10;
constexpr int kStartSecondsMax = 10;
constexpr std::chrono::seconds kPause{1};  // before another gate, where one died
constexpr std::size_t kAddressBytesMax = 64;

Result<std::string> read_pem(const std::string& path, bool secret) {
  if (path.empty()) return std::string();
  const Fd file = LOAM_TRY(open_file(path, O_RDONLY | O_NONBLOCK));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return fail_errno(path);
  if (!S_ISREG(status.st_mode)) return fail(ErrorCode::invalid, path + ": expected a file");
  if (secret && (status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
    return fail(ErrorCode::denied, path + ": others than its owner can read the key; mend: chmod 600 " + path);
  auto text = read_fd(file.get(), kPemBytesMax);
  if (!text) return in_context(path, text.error());
  return text;
}

Result<Fd> bind_to(const spec::Listen& listen) {
  const bool ipv6 = listen.host.find(':') != std::string::npos;
  Fd socket(::socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail_errno("socket");
  const int yes = 1;
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  int bound = -1;
  if (ipv6) {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(listen.port);
    (void)::inet_pton(AF_INET6, listen.host.c_str(), &address.sin6_addr);
    bound = ::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  } else {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(listen.port);
    (void)::inet_pton(AF_INET, listen.host.c_str(), &address.sin_addr);
    bound = ::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  }
  if (bound != 0 && errno == EADDRINUSE)
    return fail(ErrorCode::busy, "listen: " + listen.address + " is taken by another program");
  if (bound != 0 || ::listen(socket.get(), kBacklog) != 0) return fail_errno("listen: " + listen.address);
  return socket;
}

}  // namespace

Result<void> Gate::configure(const std::optional<spec::Listen>& listen) {
  if (listen && identity_.rootless)
    return fail(ErrorCode::invalid, "listen: a user's own node serves nobody else; it is of a system's node");
  Fd listener;
  RunningPtr gate;
  if (listen) {
    const bool same = listen_ && listen_->host == listen->host && listen_->port == listen->port;
    if (!same) listener = LOAM_TRY(bind_to(*listen));
    gate = LOAM_TRY(start(*listen, same ? listener_ : listener));
    if (same) listener = std::move(listener_);
  }
  if (now_) {
    now_->draining = true;
    (void)send_packet(now_->control.get(), "drain", {}, MSG_DONTWAIT);
  }
  pause_ = {};
  listener_ = std::move(listener);
  listen_ = listen;
  now_ = gate;
  if (!gate) return {};
  watch(gate);
  log_info("listening on " + listen->address + (listen->certificate.empty() ? ", without TLS" : ", with TLS"));
  return {};
}

Result<Gate::RunningPtr> Gate::start(const spec::Listen& listen, const Fd& listener) {
  const std::string certificate = LOAM_TRY(read_pem(listen.certificate, false));
  const std::string key = LOAM_TRY(read_pem(listen.key, true));
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) return fail_errno("socketpair");
  auto gate = std::make_shared<Running>();
  gate->control = Fd(ends[0]);
  const Fd theirs(ends[1]);
  SpawnOptions options;
  options.argv = {"/proc/self/exe", kGateWord};
  options.environment = environment_of_helpers();
  options.directory = "/";
  options.descriptors = {{theirs.get(), kGateSocket}};
  options.own_group = true;
  const Fd nothing = LOAM_TRY(open_file("/dev/null", O_RDWR));  // not the node's log
  options.standard_output = options.standard_error = nothing.get();
  gate->child = LOAM_TRY(spawn(options));
  // Beside the id of root's jobs, of the same reserved range (identity.h): nothing else has it.
  const Json setup = Json::object({{"certificate", certificate},
                                   {"key", key},
                                   {"uid", identity_.job_uid + 1},
                                   {"gid", identity_.job_gid + 1},
                                   {"ipv6", listen.host.find(':') != std::string::npos}});
  const std::array<int, 1> passed{listener.get()};
  const timeval patience{.tv_sec = kStartSecondsMax, .tv_usec = 0};
  (void)::setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (send_packet(ends[0], setup.dump(), passed) < 0) return fail_errno("the gate");
  std::array<char, 512> word{};
  const ReceivedPacket answer = receive_packet(ends[0], word);
  const std::string said(word.data(), answer.size_bytes > 0 ? static_cast<std::size_t>(answer.size_bytes) : 0);
  if (said != "ok")
    return fail(ErrorCode::invalid, "listen: " + (said.empty() ? "the gate did not start" : printable(said)));
  return gate;
}

void Gate::watch(const RunningPtr& gate) {
  all_.push_back(gate);
  const std::weak_ptr<Running> weak = gate;
  gate->spoken = loop_.watch_readable(gate->control.get(), [this, weak] {
    if (const auto speaker = weak.lock()) spoke(speaker);
  });
  gate->ended = loop_.watch_readable(gate->child.pidfd(), [this, weak] {
    if (const auto dead = weak.lock()) gone(dead);
  });
}

void Gate::spoke(const RunningPtr& gate) {
  std::array<char, kAddressBytesMax> address{};
  for (;;) {
    ReceivedPacket packet = receive_packet(gate->control.get(), address, MSG_DONTWAIT);
    if (packet.size_bytes == 0) gate->spoken = {};  // its end: `ended` tells
    if (packet.size_bytes <= 0) return;
    if (packet.truncated || packet.descriptors.size() != 2) continue;
    const std::string_view from(address.data(), static_cast<std::size_t>(packet.size_bytes));
    taken_({.connection = std::move(packet.descriptors[0]),
            .life = std::move(packet.descriptors[1]),
            .address = printable(from)});
  }
}

void Gate::gone(const RunningPtr& gate) {
  gate->spoken = {};
  gate->ended = {};
  const auto status = gate->child.wait();
  all_.remove(gate);
  if (gate != now_) return;
  now_ = nullptr;
  log_error("the gate of " + listen_->address + " ended: " +
            (status ? describe_status(*status) : status.error().text) + "; another is started");
  pause_ = loop_.after(kPause, [this] { start_again(); });
}

void Gate::start_again() {
  auto gate = start(*listen_, listener_);
  if (gate) {
    now_ = *gate;
    return watch(now_);
  }
  log_error(gate.error().text);
  pause_ = loop_.after(kPause, [this] { start_again(); });
}

void Gate::stop() {
  pause_ = {};
  now_ = nullptr;
  all_.clear();  // ends them
}

}  // namespace loam::node
