#include "node/http_connection.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/read.hpp>
#include <utility>

#include "base/text.h"
#include "node/http_exchange.h"

namespace loam::node {
namespace {

constexpr std::string_view kBearer = "Bearer ";  // RFC 6750, 2.1; the scheme in any case

// Absent, it is taken for JSON: there is nothing else that the node takes.
bool is_json(std::string_view type) {
  return type.empty() ||
         boost::beast::iequals(trim(type.substr(0, type.find(';'))), "application/json");
}

}  // namespace

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
  limit(remote() ? kRemoteHeadTimeMax : kRequestTimeMax);
  http::async_read_header(socket_, buffer_, *parser_,
                          [self = shared_from_this()](const SystemError& error, std::size_t) {
                            self->head_read(error);
                          });
}

void Connection::limit(std::chrono::seconds time) {
  deadline_.expires_after(time);
  deadline_.async_wait([weak = weak_from_this()](const SystemError& error) {
    if (const auto self = weak.lock(); self && !error) self->close();
  });
}

void Connection::head_read(const SystemError& error) {
  if (closed_) return;
  if (error) return read_failed(error);
  if (parser_->get().version() != 11)
    return refuse(505, {ErrorCode::invalid, "the node speaks HTTP/1.1"});
  remote() ? authenticate() : read_body();
}

// Before a byte of the body is taken.
void Connection::authenticate() {
  const auto& message = parser_->get();
  const auto owner = owner_.lock();
  if (!owner || !owner->remote.authenticate) return close();
  // Two of them would let somebody in front read another request than we do (RFC 9112, 3.2 and 11.2).
  if (message.count(http::field::host) != 1 || message.count(http::field::authorization) > 1)
    return refuse(400, {ErrorCode::invalid, "expected one Host and one Authorization"});
  const auto field = message[http::field::authorization];
  std::string_view token(field.data(), field.size());
  token = boost::beast::iequals(token.substr(0, kBearer.size()), kBearer)
              ? trim(token.substr(kBearer.size()))
              : std::string_view();
  caller_ = Caller{};
  limit(kRequestTimeMax);
  owner->remote.authenticate(token, address_, [self = shared_from_this()](Result<Caller> caller) {
    self->admitted(std::move(caller));
  });
}

void Connection::admitted(Result<Caller> caller) {
  if (closed_) return;
  if (!caller && caller.error().code == ErrorCode::busy)
    return refuse(429, caller.error(), "retry-after: 60\r\n");
  if (!caller && caller.error().code == ErrorCode::denied)
    return refuse(401, caller.error(), "www-authenticate: Bearer\r\n");
  if (!caller) return refuse(status_of(caller.error().code), caller.error());
  caller_ = std::move(*caller);
  at_expiry(expiry_, caller_, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->close();
  });
  const auto owner = owner_.lock();
  const auto request = request_of_head();
  if (!owner) return close();
  if (!request) return refuse(400, request.error());
  if (owner->remote.allowed)
    if (auto allowed = owner->remote.allowed(*request); !allowed)
      return refuse(status_of(allowed.error().code), allowed.error());
  read_body();
}

void Connection::read_body() {
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

void Connection::refuse(int status, const Error& error, std::string_view headers) {
  send(response_text(status, error_body(error), true, headers));
  end_exchange(false);
}

Result<Request> Connection::request_of_head() const {
  const auto& message = parser_->get();
  Request request;
  request.method = std::string(message.method_string());
  request.caller = caller_;
  request.upgrade = std::string(message[http::field::upgrade]);
  LOAM_CHECK(decode_target(std::string_view(message.target().data(), message.target().size()),
                           request));
  return request;
}

void Connection::take_request() {
  const auto& message = parser_->get();
  auto head = request_of_head();
  if (!head) return refuse(400, head.error());
  Request request = std::move(*head);
  keep_alive_ = message.keep_alive() || !request.upgrade.empty();
  const auto type = message[http::field::content_type];
  if (!message.body().empty() && !is_json(std::string_view(type.data(), type.size())))
    return refuse(415, {ErrorCode::invalid, "the request's body: expected application/json, found " +
                                                printable(std::string_view(type.data(), type.size()))});
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
  for (auto* timer : {&deadline_, &beat_}) timer->cancel();
  expiry_.cancel();
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

void Connection::send(const std::string& bytes) {
  if (closed_) return;
  queue_ += bytes;
  if (!write_running_) write_next();
}

void Connection::start_stream(std::string_view content_type, std::string_view headers) {
  send(stream_head(content_type, headers));
  if (remote() && content_type == "text/event-stream") beat();
}

// A comment, which readers of event streams pass over (HTML, 9.2.5): a client that is gone without a
// word is noticed by what it does not take.
void Connection::beat() {
  const auto owner = owner_.lock();
  if (!owner) return;
  beat_.expires_after(owner->remote.beat);
  beat_.async_wait([weak = weak_from_this()](const SystemError& stopped) {
    const auto self = weak.lock();
    if (!self || stopped || self->closed_) return;
    if (!self->writing()) self->send(chunk(":\n\n"));
    self->beat();
  });
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
  beat_.cancel();
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
  expiry_.cancel();
  Fd fd(socket_.release(error));
  closed_ = true;
  if (const auto owner = owner_.lock()) {
    std::erase(owner->connections, self);
    if (remote()) {
      const auto stream = std::make_shared<RemoteStream>(io_, caller_);
      owner->streams.push_back(stream);
      stream->watch(std::move(life_), [weak = owner_, stream = std::weak_ptr(stream)] {
        if (const auto there = weak.lock()) std::erase(there->streams, stream.lock());
      });
    }
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

}  // namespace loam::node
