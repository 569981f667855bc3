#include "cli/port_forward.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <utility>

#include "base/text.h"

namespace loam::cli {
namespace {

constexpr int kBacklog = 64;
constexpr std::size_t kUnsentBytesMax = 256u << 10;  // then the other side waits
constexpr std::size_t kReadBytes = 32u << 10;
constexpr std::size_t kTunnelsMax = 128;  // as the shim

std::optional<std::uint16_t> port_of(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port == 0) return std::nullopt;
  return port;
}

Result<Fd> listen_on(std::uint16_t port) {
  Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail_errno("socket");
  const int on = 1;
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const sockaddr_in address{.sin_family = AF_INET,
                            .sin_port = htons(port),
                            .sin_addr = {htonl(INADDR_LOOPBACK)},
                            .sin_zero = {}};
  const std::string shown = "127.0.0.1:" + std::to_string(port);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(socket.get(), kBacklog) != 0)
    return fail_errno("listen on " + shown);
  return socket;
}

std::uint16_t port_of_socket(const Fd& socket) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  (void)::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

// Sends what it can of `unsent`; false: the other end has gone.
bool flush(const Fd& socket, std::string& unsent) {
  while (!unsent.empty()) {
    const ssize_t count =
        ::send(socket.get(), unsent.data(), unsent.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno == EAGAIN;
    unsent.erase(0, static_cast<std::size_t>(count));
  }
  return true;
}

}  // namespace

Result<PortPair> parse_ports(const std::string& text) {
  const auto colon = text.find(':');
  const auto job = port_of(colon == std::string::npos ? text : text.substr(colon + 1));
  const auto local = colon == std::string::npos ? job : port_of(text.substr(0, colon));
  if (!job || !local)
    return fail(ErrorCode::invalid, "'" + printable(text) +
                                        "': expected the job's port, such as 6006, or "
                                        "LOCAL:PORT, such as 8080:6006");
  return PortPair{.local = *local, .job = *job, .local_given = colon != std::string::npos};
}

Result<void> check_port_is_free(std::uint16_t port) {
  LOAM_TRY(listen_on(port));
  return {};
}

Result<std::uint16_t> PortForward::listen(const PortPair& ports) {
  auto socket = listen_on(ports.local);
  if (!socket && !ports.local_given) socket = listen_on(0);
  if (!socket) return tl::unexpected(socket.error());
  const std::uint16_t port = port_of_socket(*socket);
  listeners_.push_back({std::move(*socket), ports.job});
  return port;
}

void PortForward::add_polls(std::vector<pollfd>& polls) const {
  const bool room = tunnels_.size() < kTunnelsMax;
  for (const Listener& listener : listeners_)
    polls.push_back({room ? listener.socket.get() : -1, POLLIN, 0});
  // A descriptor without a wish is left out: its hang-up would be told again and again.
  const auto add = [&](int fd, bool reads, bool writes) {
    const auto events = static_cast<short>((reads ? POLLIN : 0) | (writes ? POLLOUT : 0));
    polls.push_back({events != 0 ? fd : -1, events, 0});
  };
  for (const Tunnel& tunnel : tunnels_) {
    const bool open = static_cast<bool>(tunnel.remote);
    add(tunnel.local.get(),
        open && !tunnel.local_ended && tunnel.to_remote.size() < kUnsentBytesMax,
        !tunnel.to_local.empty());
    add(tunnel.opening ? tunnel.opening->fd() : tunnel.remote.get(),
        tunnel.opening || (!tunnel.remote_ended && tunnel.to_local.size() < kUnsentBytesMax),
        open && !tunnel.to_remote.empty());
  }
}

void PortForward::handle(const pollfd* polls) {
  const std::size_t known = tunnels_.size();
  const pollfd* const tunnel_polls = polls + listeners_.size();
  for (std::size_t i = 0; i < known; ++i)
    handle(tunnels_[i], tunnel_polls[2 * i], tunnel_polls[2 * i + 1]);
  std::erase_if(tunnels_, [](const Tunnel& tunnel) {
    return tunnel.broken || (tunnel.remote_ended && tunnel.to_local.empty());
  });
  for (const Listener& listener : listeners_)
    if ((polls++)->revents != 0) accept_from(listener);
}

void PortForward::accept_from(const Listener& listener) {
  Fd local(::accept4(listener.socket.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!local) return;
  auto opening = node_.open_upgrade("/v1/join/" + engines::percent_encoded_path(target_),
                                    "loam-attach", Json::object({{"port", listener.job_port}}));
  if (!opening) return warn_once(opening.error().text);
  Tunnel& tunnel = tunnels_.emplace_back();
  tunnel.local = std::move(local);
  tunnel.opening = std::move(*opening);
}

void PortForward::handle(Tunnel& tunnel, const pollfd& local, const pollfd& remote) {
  if (tunnel.opening) {
    if (remote.revents != 0) open_remote(tunnel);
    return;
  }
  if ((local.revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !tunnel.local_ended)
    read_local(tunnel);
  if ((remote.revents & (POLLIN | POLLHUP | POLLERR)) != 0) read_remote(tunnel);
  // What the job no longer reads is lost; what it has said still comes.
  if (tunnel.remote && !flush(tunnel.remote, tunnel.to_remote)) tunnel.to_remote.clear();
  if (!flush(tunnel.local, tunnel.to_local)) tunnel.broken = true;
}

void PortForward::open_remote(Tunnel& tunnel) {
  const auto complete = tunnel.opening->read(tunnel.refusal);
  if (complete && tunnel.opening->has_head() && tunnel.opening->head().status == 101) {
    auto upgraded = tunnel.opening->take_upgraded();
    tunnel.opening.reset();
    tunnel.remote = std::move(upgraded.connection);
    tunnel.frames.add(upgraded.early);
    return take_frames(tunnel);
  }
  if (complete && !*complete) return;
  warn_once(complete ? engines::error_of({tunnel.opening->head().status,
                                          Json::parse(tunnel.refusal).value_or(Json())})
                           .text
                     : complete.error().text);
  tunnel.broken = true;
}

void PortForward::read_local(Tunnel& tunnel) {
  std::array<char, kReadBytes> buffer;
  const ssize_t count = ::recv(tunnel.local.get(), buffer.data(), buffer.size(), 0);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count < 0) {
    tunnel.broken = true;
    return;
  }
  tunnel.local_ended = count == 0;  // and so says a frame without bytes
  tunnel.to_remote += api::encode_frame(api::AttachFrame::input,
                                        {buffer.data(), static_cast<std::size_t>(count)});
}

void PortForward::read_remote(Tunnel& tunnel) {
  std::array<char, kReadBytes> buffer;
  const ssize_t count = ::recv(tunnel.remote.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) {
    tunnel.remote_ended = true;
    return;
  }
  tunnel.frames.add({buffer.data(), static_cast<std::size_t>(count)});
  take_frames(tunnel);
}

void PortForward::take_frames(Tunnel& tunnel) {
  for (;;) {
    auto frame = tunnel.frames.next();
    if (!frame) {
      tunnel.broken = true;
      return;
    }
    if (!*frame) return;
    if ((*frame)->type == api::AttachFrame::output) tunnel.to_local += (*frame)->payload;
    if ((*frame)->type != api::AttachFrame::exit) continue;
    const auto record = Json::parse((*frame)->payload);
    const std::string error = record ? (*record)["error"].as_string() : "";
    if (!error.empty()) warn_once(error);
    tunnel.remote_ended = true;
    return;
  }
}

// A browser asks many times.
void PortForward::warn_once(const std::string& text) {
  if (std::exchange(warned_, text) != text) console_.warn(printable(text));
}

}  // namespace loam::cli
