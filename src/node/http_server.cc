// One Connection a client: read a request, hand it to the handler as an Exchange, write what that
// answers, read the next one. While an answer is awaited only a hang-up is watched for.
//
//   accept ─▶ Connection ─ Beast's parser ─▶ Request ─▶ handler ─▶ Exchange (Responder) ─▶ queue ─▶
//   socket
//
// Ownership: a Connection lives by its pending asynchronous operations (therefore shared_ptr) and
// in the server's list; an Exchange by whoever is to answer.
#include "node/http_server.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <list>
#include <optional>

#include "base/log.h"
#include "node/http_wire.h"
#include "node/loop_impl.h"

namespace loam::node {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Socket = asio::local::stream_protocol::socket;
using SystemError = boost::system::error_code;

constexpr std::size_t kDrainedBytes = 64 * 1024;  // on_drained: at most this much is pending
constexpr std::size_t kPeerGroupsMax = 65536;     // NGROUPS_MAX
constexpr std::chrono::seconds kFinishTimeMax{2};

// The kernel's word on who connected (socket(7), SO_PEERCRED and SO_PEERGROUPS).
Result<Caller> caller_of(int fd) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
    return fail_errno("SO_PEERCRED");
  Caller caller{credentials.uid, credentials.gid, std::vector<std::uint32_t>(64), credentials.pid};
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

class Exchange;

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  struct Owner {
    HttpServer::Handler handler;
    std::list<std::shared_ptr<Connection>> connections;
    bool finishing = false;
    std::function<void()> finished;
    void check_finished();
  };

  Connection(asio::io_context& io, Socket socket, Caller caller, std::weak_ptr<Owner> owner)
      : io_(io),
        socket_(std::move(socket)),
        deadline_(io),
        caller_(std::move(caller)),
        owner_(std::move(owner)) {}

  void read_request();
  void close();
  void close_when_idle();
  bool writing() const { return write_running_ || !queue_.empty(); }
  std::uint32_t uid() const { return caller_.uid; }
  void refuse(int status, const Error& error);
  void fail_now(const Error& error);

  // For Exchange.
  void send(std::string bytes);
  void end_exchange(bool keep_open);
  void upgrade(std::string_view protocol, std::function<void(Fd)> taken);
  std::size_t pending_bytes() const { return queue_.size() + flight_.size(); }
  asio::io_context& io() { return io_; }

 private:
  void head_read(const SystemError& error);
  void body_read(const SystemError& error);
  void read_failed(const SystemError& error);
  void take_request();
  void watch_hang_up();
  void hung_up();
  void write_next();
  void written(const SystemError& error);
  void hand_over();

  asio::io_context& io_;
  Socket socket_;
  asio::steady_timer deadline_;
  Caller caller_;
  std::weak_ptr<Owner> owner_;
  boost::beast::flat_buffer buffer_{kHeadBytesMax + 64 * 1024};
  std::optional<http::request_parser<http::string_body>> parser_;
  std::weak_ptr<Exchange> exchange_;
  bool exchange_open_ = false;
  bool keep_alive_ = false;
  bool closing_ = false;  // after what is queued
  bool closed_ = false;
  bool watching_ = false;  // a hang-up wait is pending
  bool write_running_ = false;
  std::string flight_;  // being written
  std::string queue_;   // to be written next
  std::function<void(Fd)> taken_;
};

class Exchange : public Responder, public std::enable_shared_from_this<Exchange> {
 public:
  Exchange(std::shared_ptr<Connection> connection, bool keep_alive)
      : connection_(std::move(connection)), keep_alive_(keep_alive) {}
  ~Exchange() override {
    if (state_ == State::waiting)
      reply_error({ErrorCode::io, "the node gave no answer; its log may say why"});
    else if (state_ == State::streaming)
      finish(false);  // without the last chunk: the client sees that the stream broke
  }

  void reply(int status, const Json& body) override {
    if (state_ != State::waiting) return;
    state_ = State::done;
    connection_->send(response_text(status, body, !keep_alive_));
    finish(keep_alive_);
  }
  void reply_error(const Error& error) override { reply(status_of(error.code), error_body(error)); }
  void start_stream(std::string_view content_type) override {
    if (state_ != State::waiting) return;
    state_ = State::streaming;
    connection_->send(stream_head(content_type));
  }
  void write(std::string_view bytes) override {
    if (state_ == State::streaming && !bytes.empty()) connection_->send(chunk(bytes));
  }
  std::size_t pending_bytes() const override { return connection_->pending_bytes(); }
  void on_drained(std::function<void()> ready) override {
    if (state_ != State::streaming) return;
    drained_ = std::move(ready);
    if (pending_bytes() <= kDrainedBytes) post_drained();
  }
  void end_stream() override {
    if (state_ != State::streaming) return;
    connection_->send("0\r\n\r\n");
    finish(keep_alive_);
  }
  void upgrade(std::string_view protocol, std::function<void(Fd)> taken) override {
    if (state_ != State::waiting) return;
    state_ = State::done;
    forget();
    connection_->upgrade(protocol, std::move(taken));
  }
  void on_closed(std::function<void()> gone) override {
    if (state_ == State::gone) return post(std::move(gone));
    if (state_ != State::done) gone_ = std::move(gone);
  }

  void client_gone() {
    if (state_ == State::done || state_ == State::gone) return;
    state_ = State::gone;
    const auto gone = std::move(gone_);
    forget();
    if (gone) gone();
  }
  bool waiting() const { return state_ == State::waiting; }
  void drained() {
    if (drained_ && pending_bytes() <= kDrainedBytes) post_drained();
  }

 private:
  enum class State { waiting, streaming, done, gone };

  void post(std::function<void()> task) { asio::post(connection_->io(), std::move(task)); }
  void post_drained() {
    post([weak = weak_from_this(), ready = std::exchange(drained_, nullptr)] {
      if (const auto self = weak.lock(); self && self->state_ == State::streaming) ready();
    });
  }
  // The callbacks may hold this very responder.
  void forget() { gone_ = nullptr, drained_ = nullptr; }
  void finish(bool keep_open) {
    state_ = State::done;
    forget();
    connection_->end_exchange(keep_open);
  }

  std::shared_ptr<Connection> connection_;
  const bool keep_alive_;
  State state_ = State::waiting;
  std::function<void()> gone_;
  std::function<void()> drained_;
};

void Connection::Owner::check_finished() {
  if (!finishing || !finished) return;
  for (const auto& connection : connections)
    if (connection->writing()) return;
  std::exchange(finished, nullptr)();
}

void Connection::read_request() {
  if (closed_ || closing_) return;
  parser_.emplace();
  parser_->header_limit(kHeadBytesMax);
  parser_->body_limit(kBodyBytesMax);
  deadline_.expires_after(kRequestTimeMax);
  deadline_.async_wait([weak = weak_from_this()](const SystemError& error) {
    if (const auto self = weak.lock(); self && !error) self->close();
  });
  http::async_read_header(socket_, buffer_, *parser_,
                          [self = shared_from_this()](const SystemError& error, std::size_t) {
                            self->head_read(error);
                          });
}

void Connection::head_read(const SystemError& error) {
  if (closed_) return;
  if (error) return read_failed(error);
  if (parser_->get().version() != 11)
    return refuse(505, {ErrorCode::invalid, "the node speaks HTTP/1.1"});
  if (parser_->get()[http::field::expect] == "100-continue" && !parser_->is_done())
    send("HTTP/1.1 100 Continue\r\n\r\n");
  http::async_read(socket_, buffer_, *parser_,
                   [self = shared_from_this()](const SystemError& failed, std::size_t) {
                     self->body_read(failed);
                   });
}

void Connection::body_read(const SystemError& error) {
  if (closed_) return;
  if (error) return read_failed(error);
  deadline_.cancel();
  take_request();
}

void Connection::read_failed(const SystemError& error) {
  if (error == http::error::header_limit)
    return refuse(431, {ErrorCode::too_large, "the request's head is over 64 KiB"});
  if (error == http::error::body_limit)
    return refuse(413, {ErrorCode::too_large, "the request's body is over 16 MiB"});
  // Beast's own errors are the client's bad bytes; the rest is the socket's end.
  if (error.category() == http::make_error_code(http::error::bad_method).category() &&
      error != http::error::end_of_stream && error != http::error::partial_message)
    return refuse(400, {ErrorCode::invalid, "the request is not HTTP/1.1: " + error.message()});
  close();
}

void Connection::refuse(int status, const Error& error) {
  send(response_text(status, error_body(error), true));
  end_exchange(false);
}

void Connection::take_request() {
  const auto& message = parser_->get();
  Request request;
  request.method = std::string(message.method_string());
  request.caller = caller_;
  request.upgrade = std::string(message[http::field::upgrade]);
  keep_alive_ = message.keep_alive() || !request.upgrade.empty();
  if (auto decoded = decode_target(
          std::string_view(message.target().data(), message.target().size()), request);
      !decoded)
    return refuse(400, decoded.error());
  if (!message.body().empty()) {
    auto body = Json::parse(message.body());
    if (!body) return refuse(400, {ErrorCode::invalid, "the request's body: " + body.error().text});
    request.body = std::move(*body);
  }
  parser_.reset();
  const auto owner = owner_.lock();
  if (!owner || owner->finishing) return close();
  auto exchange = std::make_shared<Exchange>(shared_from_this(), keep_alive_);
  exchange_ = exchange;
  exchange_open_ = true;
  watch_hang_up();
  owner->handler(request, std::move(exchange));
}

// EPOLLHUP alone: a client that only shut its sending side down still reads, and bytes that it
// sends early stay in the socket for the next request.
void Connection::watch_hang_up() {
  if (watching_ || closed_) return;
  watching_ = true;
  socket_.async_wait(Socket::wait_error, [weak = weak_from_this()](const SystemError& error) {
    const auto self = weak.lock();
    if (!self) return;
    self->watching_ = false;
    if (!error) self->hung_up();
  });
}

void Connection::hung_up() {
  if (exchange_open_) close();
  // Else a read is pending, which sees the end itself after the bytes that came before it.
}

void Connection::close() {
  if (closed_) return;
  closed_ = true;
  const auto self = shared_from_this();
  deadline_.cancel();
  SystemError ignored;
  socket_.close(ignored);
  queue_.clear();
  exchange_open_ = false;
  if (const auto exchange = exchange_.lock()) exchange->client_gone();
  if (const auto owner = owner_.lock()) {
    std::erase(owner->connections, self);
    owner->check_finished();
  }
}

void Connection::close_when_idle() {
  if (exchange_open_) return;
  closing_ = true;
  if (!writing()) close();
}

void Connection::send(std::string bytes) {
  if (closed_) return;
  queue_ += bytes;
  if (!write_running_) write_next();
}

void Connection::write_next() {
  write_running_ = true;
  flight_ = std::exchange(queue_, {});
  asio::async_write(
      socket_, asio::buffer(flight_),
      [self = shared_from_this()](const SystemError& error, std::size_t) { self->written(error); });
}

void Connection::written(const SystemError& error) {
  write_running_ = false;
  flight_.clear();
  if (closed_) return;
  if (error) return close();
  if (!queue_.empty()) return write_next();
  if (taken_) return hand_over();
  if (closing_) return close();
  if (const auto exchange = exchange_.lock()) exchange->drained();
  if (const auto owner = owner_.lock()) owner->check_finished();
}

void Connection::end_exchange(bool keep_open) {
  if (closed_) return;
  exchange_open_ = false;
  const auto owner = owner_.lock();
  if (!keep_open || !owner || owner->finishing) {
    closing_ = true;
    deadline_.cancel();
    if (!writing()) close();
    return;
  }
  // From a fresh stack: a handler that answers at once must not recurse through pipelined requests.
  asio::post(io_, [self = shared_from_this()] { self->read_request(); });
}

void Connection::upgrade(std::string_view protocol, std::function<void(Fd)> taken) {
  exchange_open_ = false;
  if (closed_) return;
  if (buffer_.size() > 0)
    return refuse(400, {ErrorCode::invalid,
                        "wait for the node's 101 before sending " + std::string(protocol)});
  taken_ = std::move(taken);
  send(upgrade_head(protocol));
}

void Connection::hand_over() {
  const auto self = shared_from_this();
  const auto taken = std::exchange(taken_, nullptr);
  SystemError error;
  Fd fd(socket_.release(error));
  closed_ = true;
  if (const auto owner = owner_.lock()) {
    std::erase(owner->connections, self);
    owner->check_finished();
  }
  if (error || !fd) return;
  ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) & ~O_NONBLOCK);
  taken(std::move(fd));
}

void Connection::fail_now(const Error& error) {
  const auto exchange = exchange_.lock();
  if (closed_ || !exchange_open_ || !exchange || !exchange->waiting())
    return;  // a stream just breaks off
  const std::string text = response_text(status_of(error.code), error_body(error), true);
  (void)!::send(socket_.native_handle(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  exchange_open_ = false;
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
    const auto same = std::count_if(all.begin(), all.end(),
                                    [&](const auto& c) { return c->uid() == caller->uid; });
    if (all.size() >= kConnectionsMax ||
        same >= static_cast<std::ptrdiff_t>(kConnectionsOfUidMax)) {
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
