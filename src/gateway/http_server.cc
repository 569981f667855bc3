#include "gateway/http_server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "gateway/connection.h"
#include "gateway/port.h"

namespace loam::gateway {
namespace {

constexpr std::chrono::seconds kSweepPeriod{
    1};  // while there are connections; deadlines are coarse
constexpr std::chrono::milliseconds kAcceptPause{100};  // out of descriptors
constexpr int kAcceptPerTurn = 64;

}  // namespace

HttpServer::HttpServer(EventLoop& loop, HttpHandler& handler) : loop_(loop), handler_(handler) {}

HttpServer::~HttpServer() {
  if (listener_) loop_.remove(listener_.get());
  for (auto& [fd, connection] : connections_) loop_.remove(fd);
}

Result<void> HttpServer::listen(const std::string& address) {
  Listener listener = LOAM_TRY(listen_on(address));
  if (listener_) loop_.remove(listener_.get());
  listener_ = std::move(listener.socket);
  listening_ = listener.address;
  return loop_.add(listener_.get(), EPOLLIN, [this](std::uint32_t) { accept_some(); });
}

void HttpServer::accept_some() {
  for (int i = 0; i < kAcceptPerTurn; ++i) {
    Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
      loop_.change(listener_.get(), 0);
      loop_.after(kAcceptPause, [this] {
        if (listener_) loop_.change(listener_.get(), EPOLLIN);
      });
      return;
    }
    if (!socket) return;
    if (connections_.size() >= kConnectionsMax) {
      const std::string text =
          "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\n"
          "Connection: close\r\nloam-request-id: " +
          handler_.next_id().text() + "\r\n\r\n";
      (void)!::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      continue;
    }
    const int on = 1;
    ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const int fd = socket.get();
    auto connection = std::make_unique<Connection>(*this, std::move(socket));
    Connection* borrowed = connection.get();
    const auto added = loop_.add(fd, EPOLLIN | EPOLLRDHUP,
                                 [borrowed](std::uint32_t events) { borrowed->on_events(events); });
    if (!added) return log_error(added.error().text);
    connections_[fd] = std::move(connection);
  }
  if (!sweeping_ && !connections_.empty()) {
    sweeping_ = true;
    loop_.after(kSweepPeriod, [this] { sweep(); });
  }
}

void HttpServer::sweep() {
  const std::int64_t now_ns = steady_ns();
  std::vector<Connection*> overdue;
  for (const auto& [fd, connection] : connections_)
    if (connection->overdue(now_ns)) overdue.push_back(connection.get());
  for (Connection* connection : overdue) connection->on_overdue();
  sweeping_ = !connections_.empty();
  if (sweeping_) loop_.after(kSweepPeriod, [this] { sweep(); });
}

// A connection may ask for this from deep inside itself: it dies at the end of the turn.
void HttpServer::close(int fd) {
  loop_.remove(fd);
  const auto found = connections_.find(fd);
  if (found == connections_.end()) return;
  // shared_ptr because std::function wants to be copyable.
  const std::shared_ptr<Connection> dying = std::move(found->second);
  connections_.erase(found);
  loop_.later([dying] {});
}

bool HttpServer::drain() {
  draining_ = true;
  if (listener_) loop_.remove(listener_.get());
  listener_.reset();
  std::vector<Connection*> all;
  for (const auto& [fd, connection] : connections_) all.push_back(connection.get());
  for (Connection* connection : all) connection->close_soon();
  return connections_.empty();
}

}  // namespace loam::gateway
