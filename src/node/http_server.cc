// Who connects, how many, and the end: the clients themselves are http_connection.h's.
#include "node/http_server.h"

#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "base/log.h"
#include "node/http_connection.h"
#include "node/loop_impl.h"

namespace loam::node {
namespace {

constexpr std::size_t kPeerGroupsMax = 65536;  // NGROUPS_MAX
constexpr std::chrono::seconds kFinishTimeMax{2};

// The kernel's word on who connected (socket(7), SO_PEERCRED and SO_PEERGROUPS).
Result<Caller> caller_of(int fd) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
    return fail_errno("SO_PEERCRED");
  Caller caller{.uid = credentials.uid,
                .gid = credentials.gid,
                .groups = std::vector<std::uint32_t>(64),
                .pid = credentials.pid,
                .scope = Scope::admin};
  for (;;) {
    size = static_cast<socklen_t>(caller.groups.size() * sizeof(gid_t));
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, caller.groups.data(), &size) == 0) break;
    if (errno != ERANGE || caller.groups.size() >= kPeerGroupsMax)
      return fail_errno("SO_PEERGROUPS");
    caller.groups.resize(kPeerGroupsMax);
  }
  caller.groups.resize(size / sizeof(gid_t));
  return caller;
}

}  // namespace

struct HttpServer::Impl : std::enable_shared_from_this<HttpServer::Impl> {
  Impl(Loop& loop, Fd listener)
      : io(loop.impl().io),
        acceptor(io, asio::local::stream_protocol(), listener.release()),
        finish_timer(io),
        owner(std::make_shared<Connection::Owner>()) {}

  asio::io_context& io;
  asio::local::stream_protocol::acceptor acceptor;
  asio::steady_timer finish_timer;
  std::shared_ptr<Connection::Owner> owner;

  void accept() {
    acceptor.async_accept([weak = weak_from_this()](const SystemError& error, Socket socket) {
      const auto self = weak.lock();
      if (!self || error == asio::error::operation_aborted) return;
      if (error)
        self->accept_failed(error);
      else
        self->accepted(std::move(socket)), self->accept();
    });
  }

  // Out of descriptors: the next try once something has had time to end; never a busy loop.
  void accept_failed(const SystemError& error) {
    log_warning("accepting a client: " + error.message());
    finish_timer.expires_after(std::chrono::seconds(1));
    finish_timer.async_wait([weak = weak_from_this()](const SystemError& stopped) {
      if (const auto self = weak.lock(); self && !stopped) self->accept();
    });
  }

  void accepted(Socket socket) {
    auto caller = caller_of(socket.native_handle());
    if (!caller) return log_warning("a client without credentials: " + caller.error().text);
    auto& all = owner->connections;
    const auto count = [&](auto which) {
      return static_cast<std::size_t>(std::count_if(all.begin(), all.end(), which));
    };
    const auto local = count([](const auto& c) { return !c->remote(); });
    const auto same = count([&](const auto& c) { return !c->remote() && c->uid() == caller->uid; });
    if (local >= kConnectionsMax ||
        same >= kConnectionsOfUidMax) {
      const Error error{ErrorCode::unavailable,
                        "too many connections to the node; close some and try again"};
      const std::string text = response_text(503, error_body(error), true);
      (void)!::send(socket.native_handle(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      return;
    }
    auto connection =
        std::make_shared<Connection>(io, std::move(socket), std::move(*caller), owner);
    all.push_back(connection);
    connection->read_request();
  }
};

HttpServer::HttpServer(Loop& loop, Fd listener, Handler handler)
    : impl_(std::make_shared<Impl>(loop, std::move(listener))) {
  impl_->owner->handler = std::move(handler);
  impl_->accept();
}

HttpServer::~HttpServer() {
  SystemError ignored;
  impl_->acceptor.close(ignored);
  impl_->owner->finished = nullptr;
  while (!impl_->owner->connections.empty()) {
    const auto connection = impl_->owner->connections.front();
    connection->close();
  }
  const auto streams = impl_->owner->streams;
  for (const auto& stream : streams) stream->end();
}

void HttpServer::set_remote(RemoteRules rules) { impl_->owner->remote = std::move(rules); }

void HttpServer::take(RemoteClient client) {
  auto& all = impl_->owner->connections;
  const auto remote = std::count_if(all.begin(), all.end(), [](const auto& c) { return c->remote(); });
  if (impl_->owner->finishing || remote >= static_cast<std::ptrdiff_t>(kRemoteConnectionsMax)) return;
  SystemError error;
  Socket socket(impl_->io);
  socket.assign(asio::local::stream_protocol(), client.connection.get(), error);
  if (error) return log_warning("a client from " + client.address + ": " + error.message());
  (void)client.connection.release();
  auto made = std::make_shared<Connection>(impl_->io, std::move(socket), impl_->owner,
                                           std::move(client));
  all.push_back(made);
  made->read_request();
}

void HttpServer::close_token(std::int64_t token) {
  const auto connections = impl_->owner->connections;  // closing takes them off the list
  for (const auto& connection : connections)
    if (connection->token() == token) connection->close();
  const auto streams = impl_->owner->streams;  // likewise
  for (const auto& stream : streams)
    if (stream->token() == token) stream->end();
}

void HttpServer::finish(std::function<void()> done) {
  SystemError ignored;
  impl_->acceptor.close(ignored);
  impl_->owner->finishing = true;
  impl_->owner->finished = std::move(done);
  impl_->finish_timer.expires_after(kFinishTimeMax);
  impl_->finish_timer.async_wait([owner = impl_->owner](const SystemError& stopped) {
    if (!stopped && owner->finished) std::exchange(owner->finished, nullptr)();
  });
  const auto connections = impl_->owner->connections;  // closing takes them off the list
  for (const auto& connection : connections) connection->close_when_idle();
  asio::post(impl_->io, [owner = impl_->owner] { owner->check_finished(); });
}

void HttpServer::fail_all(const Error& error) {
  for (const auto& connection : impl_->owner->connections) connection->fail_now(error);
}

}  // namespace loam::node
