#include "gateway/connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/clock.h"
#include "gateway/http_server.h"
#include "gateway/request_parser.h"

namespace loam::gateway {
namespace {

constexpr std::size_t kBodyStepBytes = 64 * 1024;       // a body grows as its bytes come
constexpr std::size_t kReceivePerTurnBytes = 1u << 20;  // then the others have their turn
constexpr std::chrono::seconds kLingerTimeout{2};       // for a refused client to read why

}  // namespace

Connection::Connection(HttpServer& server, Fd socket)
    : server_(server), socket_(std::move(socket)) {
  set_phase(Phase::idle);
  interest_ = EPOLLIN | EPOLLRDHUP;
}

Connection::~Connection() {
  if (const ExchangePtr exchange = current()) exchange->abandon();
}

ExchangePtr Connection::make_exchange() {
  return std::make_shared<Exchange>(
      server_.handler_.next_id(),
      [this](Exchange& exchange, HttpResponse response) { send(exchange, std::move(response)); });
}

ExchangePtr Connection::current() const { return exchange_ ? exchange_ : awaited_.lock(); }

void Connection::set_phase(Phase phase) {
  phase_ = phase;
  const auto within = [&](std::chrono::nanoseconds limit) {
    deadline_ns_ = steady_ns() + limit.count();
  };
  switch (phase) {
    case Phase::idle:
      return within(kIdleTimeout);
    case Phase::head:
      return within(kHeadTimeout);
    case Phase::body:
      return within(kBodyTimeout);
    case Phase::writing:
      return within(kWriteTimeout);
    case Phase::linger:
      return within(kLingerTimeout);
    case Phase::waiting:  // the model's own timeout answers
    case Phase::closed:
      deadline_ns_ = INT64_MAX;
  }
}

void Connection::on_events(std::uint32_t events) {
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) return give_up();
  if (phase_ == Phase::waiting) {
    if ((events & EPOLLIN) != 0) more_input_ = true;
    if ((events & EPOLLRDHUP) != 0) {
      input_ended_ = true;
      // Nothing of it lies with a worker yet: the row is free for somebody who still listens.
      const ExchangePtr exchange = awaited_.lock();
      if (exchange && !exchange->dispatched) return give_up();
    }
  } else if ((events & EPOLLIN) != 0 && phase_ != Phase::writing) {
    receive();
  }
  pump();
  update_interest();
}

// A client that waits for its answer costs no epoll_ctl: only one that sends ahead does.
void Connection::update_interest() {
  if (phase_ == Phase::closed) return;
  std::uint32_t wanted = EPOLLIN | EPOLLRDHUP;
  if (phase_ == Phase::writing) wanted = EPOLLOUT;
  if (phase_ == Phase::waiting && more_input_) wanted = EPOLLRDHUP;
  if (phase_ == Phase::waiting && input_ended_) wanted = 0;  // a reset still shows
  if (wanted == interest_) return;
  interest_ = wanted;
  server_.loop_.change(socket_.get(), wanted);
}

// One step after the other without recursion, however many requests lie in the buffer.
void Connection::pump() {
  if (pumping_) return;
  pumping_ = true;
  while (step()) {
  }
  pumping_ = false;
}

bool Connection::step() {
  switch (phase_) {
    case Phase::idle:
    case Phase::head:
      return step_head();
    case Phase::body:
      return step_body();
    case Phase::writing:
      return step_writing();
    default:
      return false;
  }
}

bool Connection::step_head() {
  if (input_.empty()) return false;
  if (phase_ == Phase::idle) {
    set_phase(Phase::head);
    parser_ = std::make_unique<RequestParser>(kHeadBytesMax, kChunkedBodyBytesMax);
  }
  input_.erase(0, parser_->put_head(input_));
  if (parser_->refusal().status != 0) {
    refuse(parser_->refusal().status, parser_->refusal().text);
    return true;
  }
  if (parser_->head_done()) {
    begin_body();
    return true;
  }
  if (input_.size() < kHeadBytesMax) return false;
  refuse(431, "request head is over 16 KiB");
  return true;
}

void Connection::begin_body() {
  http_1_0_ = parser_->http_1_0();
  keep_alive_ = parser_->keep_alive() && !server_.draining_;
  const std::uint64_t length = parser_->content_length().value_or(0);
  if (length > kBodyBytesMax) return refuse(413, "body is over 64 MiB");
  exchange_ = make_exchange();
  parser_->fill(exchange_->request);
  body_size_ = static_cast<std::size_t>(length);
  body_received_ = 0;
  announced_ = false;
  set_phase(Phase::body);
}

bool Connection::step_body() {
  if (parser_->chunked()) {
    if (!input_.empty()) input_.erase(0, parser_->put_chunks(input_));
    if (parser_->refusal().status != 0) {
      refuse(parser_->refusal().status, parser_->refusal().text);
      return true;
    }
    if (!charge(parser_->chunked_bytes())) return true;
    if (parser_->chunked_done()) {
      exchange_->request.body = parser_->take_chunked_body();
      deliver();
      return true;
    }
  } else {
    while (body_received_ < body_size_ && !input_.empty()) {
      if (!grow_body()) return true;
      const std::size_t count =
          std::min(input_.size(), exchange_->request.body.size() - body_received_);
      input_.copy(exchange_->request.body.data() + body_received_, count);
      input_.erase(0, count);
      body_received_ += count;
    }
    if (body_received_ == body_size_) {
      deliver();
      return true;
    }
  }
  if (!announced_) {
    announced_ = true;
    if (parser_->expects_continue())
      (void)!::send(socket_.get(), "HTTP/1.1 100 Continue\r\n\r\n", 25,
                    MSG_NOSIGNAL | MSG_DONTWAIT);
    server_.handler_.arriving(exchange_);
  }
  return false;
}

// Room for at least one more byte. False: refused.
bool Connection::grow_body() {
  std::string& body = exchange_->request.body;
  if (body_received_ < body.size()) return true;
  const std::size_t size = std::min(body_size_, std::max(kBodyStepBytes, body.size() * 2));
  if (!charge(size)) return false;
  body.resize(size);
  return true;
}

// What our body takes of the limit of all. False: refused, because together they are over it.
bool Connection::charge(std::size_t body_bytes) {
  const std::size_t more = body_bytes - charged_bytes_;  // a body only grows
  if (server_.bodies_bytes_ + more > kBodiesBytesMax) {
    refuse(503, "too many large requests at once");
    return false;
  }
  server_.bodies_bytes_ += more;
  charged_bytes_ += more;
  return true;
}

void Connection::deliver() {
  set_phase(Phase::waiting);
  parser_.reset();
  const ExchangePtr exchange = std::move(exchange_);
  awaited_ = exchange;
  server_.handler_.handle(exchange);
}

void Connection::refuse(int status, const std::string& text) {
  HttpResponse refusal = error_response(status, text);  // `text` may be the parser's
  keep_alive_ = false;
  parser_.reset();
  if (!exchange_) {
    exchange_ = make_exchange();
  } else if (announced_) {
    server_.handler_.vanished(exchange_);
  }
  set_phase(Phase::waiting);
  const ExchangePtr exchange = std::move(exchange_);
  exchange->answer(std::move(refusal));
}

void Connection::send(const Exchange& exchange, HttpResponse response) {
  LOAM_ASSERT(phase_ == Phase::waiting || phase_ == Phase::body);
  const bool last = !keep_alive_ || server_.draining_;
  keep_alive_ = !last;
  output_head_ = head_of(response, exchange.id());
  if (last) output_head_ += "Connection: close\r\n";
  if (!last && http_1_0_) output_head_ += "Connection: keep-alive\r\n";
  output_head_ += "\r\n";
  output_body_ = exchange.request.method == "HEAD" ? std::string() : std::move(response.body);
  output_sent_ = 0;
  awaited_.reset();
  server_.bodies_bytes_ -= std::exchange(charged_bytes_, 0);
  set_phase(Phase::writing);
  if (pumping_) return;  // the loop that called us goes on with step_writing()
  pump();
  update_interest();
}

bool Connection::step_writing() {
  const std::size_t total = output_head_.size() + output_body_.size();
  while (output_sent_ < total) {
    const std::size_t head_sent = std::min(output_sent_, output_head_.size());
    const std::size_t body_sent = output_sent_ - head_sent;
    iovec parts[2] = {
        {.iov_base = output_head_.data() + head_sent, .iov_len = output_head_.size() - head_sent},
        {.iov_base = output_body_.data() + body_sent, .iov_len = output_body_.size() - body_sent}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    const ssize_t count = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
    if (count < 0) {
      close();
      return false;
    }
    output_sent_ += static_cast<std::size_t>(count);
  }
  finish_response();
  return true;
}

void Connection::finish_response() {
  output_head_.clear();
  output_body_ = {};
  more_input_ = false;
  if (!keep_alive_) {
    // Closed at once with bytes unread, the kernel would reset and the client never see why.
    ::shutdown(socket_.get(), SHUT_WR);
    input_.clear();
    return set_phase(Phase::linger);
  }
  set_phase(Phase::idle);
}

void Connection::receive() {
  std::size_t budget = kReceivePerTurnBytes;
  while (budget > 0) {
    if (phase_ == Phase::body && !parser_->chunked() && input_.empty()) {
      if (!receive_into_body(budget)) return;
      continue;
    }
    char buffer[kHeadBytesMax];
    const ssize_t count = ::recv(socket_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (count <= 0) return on_end_of_input();
    budget -= std::min(budget, static_cast<std::size_t>(count));
    if (phase_ == Phase::linger) continue;
    input_.append(buffer, static_cast<std::size_t>(count));
    // Looked at before more is taken: how much is right to take depends on it. A short read is the
    // end.
    if (static_cast<std::size_t>(count) < sizeof buffer) return;
    pump();
    if (phase_ != Phase::head && phase_ != Phase::body && phase_ != Phase::linger) return;
  }
}

// Straight from the socket to where it stays. False: nothing more for now.
bool Connection::receive_into_body(std::size_t& budget) {
  if (!grow_body()) return false;
  std::string& body = exchange_->request.body;
  const std::size_t room = std::min(budget, body.size() - body_received_);
  const ssize_t count = ::recv(socket_.get(), body.data() + body_received_, room, MSG_DONTWAIT);
  if (count < 0 && errno == EINTR) return true;
  if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
  if (count <= 0) {
    on_end_of_input();
    return false;
  }
  body_received_ += static_cast<std::size_t>(count);
  budget -= static_cast<std::size_t>(count);
  return body_received_ < body_size_;
}

void Connection::on_end_of_input() { give_up(); }

void Connection::give_up() {
  if (const ExchangePtr exchange = current()) {
    exchange->abandon();
    if (announced_ || phase_ == Phase::waiting) server_.handler_.vanished(exchange);
    exchange_.reset();
    awaited_.reset();
  }
  close();
}

void Connection::on_overdue() {
  if (phase_ == Phase::body) {
    refuse(408, "the request's body took over 60 s");
    pump();
    return update_interest();
  }
  give_up();
}

void Connection::close_soon() {
  keep_alive_ = false;
  if (phase_ == Phase::idle) close();
}

void Connection::close() {
  if (phase_ == Phase::closed) return;
  set_phase(Phase::closed);
  server_.bodies_bytes_ -= std::exchange(charged_bytes_, 0);
  server_.close(socket_.get());
}

}  // namespace loam::gateway
