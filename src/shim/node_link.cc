#include "shim/node_link.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "api/attempt.h"
#include "base/files.h"
#include "base/packet.h"

namespace loam::shim {
namespace {

constexpr int kBacklog = 8;
constexpr std::size_t kConnectionsMax = 8;

// Attempt folders may be deeper than the 108 bytes of sun_path: the name goes by the folder's
// descriptor.
Result<Fd> listen_at(const std::string& folder) {
  const Fd folder_fd = LOAM_TRY(open_file(folder, O_PATH | O_DIRECTORY));
  Fd listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return fail_errno("socket");
  const std::string name = "/proc/self/fd/" + std::to_string(folder_fd.get()) + "/shim.sock";
  (void)::unlinkat(folder_fd.get(), "shim.sock", 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ::memcpy(address.sun_path, name.c_str(), name.size() + 1);
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail_errno("bind " + folder + "/shim.sock");
  if (::listen(listener.get(), kBacklog) != 0) return fail_errno("listen");
  return listener;
}

}  // namespace

Result<NodeLink> NodeLink::open(const std::string& folder, Fd first) {
  NodeLink link;
  link.listener_ = LOAM_TRY(listen_at(folder));
  if (first) link.connections_.push_back({.fd = std::move(first)});
  return link;
}

void NodeLink::send(const std::string& text) {
  LOAM_ASSERT(text.size() <= api::kShimPacketBytesMax);
  for (Connection& connection : connections_) {
    connection.outgoing.push_back(text);
    flush(connection);
  }
}

void NodeLink::tell(const Json& packet) { send(packet.dump()); }

void NodeLink::announce(const Json& packet) {
  const std::string type = packet["type"].as_string();
  std::string text = packet.dump();
  send(text);
  std::erase_if(announced_, [&](const auto& entry) { return entry.first == type; });
  announced_.emplace_back(type, std::move(text));
}

void NodeLink::add_polls(std::vector<pollfd>& polls) const {
  polls.push_back({listener_.get(), POLLIN, 0});
  for (const Connection& connection : connections_)
    polls.push_back({connection.fd.get(),
                     static_cast<short>(connection.outgoing.empty() ? POLLIN : POLLIN | POLLOUT),
                     0});
}

void NodeLink::handle(const pollfd* polls, const Handler& handler) {
  const std::size_t count = connections_.size();
  for (std::size_t i = 0; i < count; ++i) {
    const short events = polls[1 + i].revents;
    if ((events & POLLOUT) != 0) flush(connections_[i]);
    if ((events & (POLLIN | POLLHUP | POLLERR)) != 0) receive(connections_[i], handler);
  }
  if (polls[0].revents != 0) accept_one();
  std::erase_if(connections_, [](const Connection& connection) { return connection.gone; });
}

void NodeLink::accept_one() {
  Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd || connections_.size() >= kConnectionsMax) return;
  Connection connection{.fd = std::move(fd)};
  for (const auto& [type, text] : announced_) connection.outgoing.push_back(text);
  flush(connection);
  connections_.push_back(std::move(connection));
}

void NodeLink::flush(Connection& connection) {
  while (!connection.outgoing.empty()) {
    const std::string& text = connection.outgoing.front();
    if (::send(connection.fd.get(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) connection.gone = true;
      return;
    }
    connection.outgoing.pop_front();
  }
}

void NodeLink::receive(Connection& connection, const Handler& handler) {
  std::string bytes(api::kShimPacketBytesMax, '\0');
  ReceivedPacket received = receive_packet(connection.fd.get(), bytes, MSG_DONTWAIT);
  const ssize_t got = received.size_bytes;
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) {
    connection.gone = true;
    return;
  }
  Fd descriptor;
  if (!received.descriptors.empty()) descriptor = std::move(received.descriptors.back());
  const auto packet = Json::parse(std::string_view(bytes).substr(0, static_cast<std::size_t>(got)));
  if (packet) handler(*packet, std::move(descriptor));
}

}  // namespace loam::shim
