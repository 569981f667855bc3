#include "shim/clients.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace loam::shim {
namespace {

constexpr std::size_t kOutgoingBytesMax = 256 * 1024;
constexpr std::size_t kClientsMax = 16;
constexpr std::size_t kPieceBytes = 16 * 1024;

}  // namespace

void Clients::add(Fd stream, std::optional<std::string> log_folder) {
  if (!stream || clients_.size() >= kClientsMax) return;
  const int flags = ::fcntl(stream.get(), F_GETFL);
  (void)::fcntl(stream.get(), F_SETFL, flags | O_NONBLOCK);
  Client client{.fd = std::move(stream)};
  if (log_folder) client.cursor.emplace(*log_folder);
  clients_.push_back(std::move(client));
  feed(clients_.back());
  remove_gone();
}

void Clients::send_live(api::AttachFrame type, std::string_view bytes) {
  for (Client& client : clients_) {
    if (client.cursor || client.gone) continue;
    for (std::size_t at = 0; at < bytes.size(); at += api::kAttachPayloadBytesMax)
      client.outgoing += api::encode_frame(type, bytes.substr(at, api::kAttachPayloadBytesMax));
    flush(client);
  }
  remove_gone();
}

bool Clients::holds_back() const {
  return std::any_of(clients_.begin(), clients_.end(), [](const Client& client) {
    return !client.cursor && client.outgoing.size() > kOutgoingBytesMax;
  });
}

void Clients::finish(std::string exit_record) {
  exit_record_ = std::move(exit_record);
  for (Client& client : clients_) feed(client);
  remove_gone();
}

void Clients::add_polls(std::vector<pollfd>& polls, bool accept_input) const {
  for (const Client& client : clients_) {
    short events = accept_input ? POLLIN : 0;
    if (!client.outgoing.empty()) events = static_cast<short>(events | POLLOUT);
    polls.push_back({client.fd.get(), events, 0});
  }
}

void Clients::handle(const pollfd* polls, const Handler& handler) {
  const std::size_t count = clients_.size();
  for (std::size_t i = 0; i < count; ++i) {
    Client& client = clients_[i];
    const short events = polls[i].revents;
    if ((events & (POLLERR | POLLNVAL)) != 0) client.gone = true;
    if ((events & (POLLIN | POLLHUP)) != 0) receive(client, handler);
    if ((events & POLLOUT) != 0) feed(client);
  }
  remove_gone();
}

void Clients::feed_viewers() {
  for (Client& client : clients_)
    if (client.cursor) feed(client);
  remove_gone();
}

bool Clients::take_hang_up() { return std::exchange(hung_up_, false); }

void Clients::flush(Client& client) {
  std::size_t sent = 0;
  while (sent < client.outgoing.size() && !client.gone) {
    const ssize_t count = ::send(client.fd.get(), client.outgoing.data() + sent,
                                 client.outgoing.size() - sent, MSG_NOSIGNAL);
    if (count > 0) sent += static_cast<std::size_t>(count);
    if (count < 0 && errno == EAGAIN) break;
    if (count < 0 && errno != EINTR) client.gone = true;
  }
  client.outgoing.erase(0, sent);
}

// Sends what there is to send, and closes a finished client.
void Clients::feed(Client& client) {
  flush(client);
  while (client.cursor && client.outgoing.empty() && !client.gone) {
    const std::string piece = client.cursor->read_more(kPieceBytes);
    if (piece.empty()) break;
    client.outgoing = api::encode_frame(api::AttachFrame::output, piece);
    flush(client);
  }
  if (!exit_record_ || client.gone) return;
  if (!client.finishing && (!client.cursor || client.outgoing.empty())) {
    client.finishing = true;
    client.outgoing += api::encode_frame(api::AttachFrame::exit, *exit_record_);
    flush(client);
  }
  if (client.finishing && client.outgoing.empty()) client.gone = true;
}

void Clients::receive(Client& client, const Handler& handler) {
  std::array<char, kPieceBytes> bytes;
  const ssize_t count = ::recv(client.fd.get(), bytes.data(), bytes.size(), 0);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) {
    client.gone = true;
    return;
  }
  client.reader.add(std::string_view(bytes.data(), static_cast<std::size_t>(count)));
  for (;;) {
    const auto frame = client.reader.next();
    if (!frame) client.gone = true;
    if (!frame || !*frame) return;
    handler(**frame);
  }
}

void Clients::remove_gone() {
  const auto live = [](const Client& client) { return !client.cursor; };
  const bool had_live = std::any_of(clients_.begin(), clients_.end(), live);
  std::erase_if(clients_, [](const Client& client) { return client.gone; });
  if (had_live && std::none_of(clients_.begin(), clients_.end(), live)) hung_up_ = true;
}

}  // namespace loam::shim
