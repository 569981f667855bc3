#include "node/http_exchange.h"

#include <boost/asio/post.hpp>
#include <utility>

namespace loam::node {
namespace {

constexpr std::size_t kDrainedBytes = 64 * 1024;  // on_drained: at most this much is pending

}  // namespace

Exchange::Exchange(std::shared_ptr<Connection> connection, bool keep_alive)
    : connection_(std::move(connection)), keep_alive_(keep_alive) {}

Exchange::~Exchange() {
  if (state_ == State::waiting)
    reply_error({ErrorCode::io, "the node gave no answer; its log may say why"});
  else if (state_ == State::streaming)
    finish(false);  // without the last chunk: the client sees that the stream broke
}

void Exchange::header(std::string_view name, std::string_view value) {
  headers_ += std::string(name) + ": " + std::string(value) + "\r\n";
}

void Exchange::reply(int status, const Json& body) {
  if (state_ != State::waiting) return;
  state_ = State::done;
  connection_->send(response_text(status, body, !keep_alive_, headers_));
  finish(keep_alive_);
}

void Exchange::reply_error(const Error& error) { reply(status_of(error.code), error_body(error)); }

void Exchange::start_stream(std::string_view content_type) {
  if (state_ != State::waiting) return;
  state_ = State::streaming;
  connection_->start_stream(content_type, headers_);
}

void Exchange::write(std::string_view bytes) {
  if (state_ == State::streaming && !bytes.empty()) connection_->send(chunk(bytes));
}

std::size_t Exchange::pending_bytes() const { return connection_->pending_bytes(); }

void Exchange::on_drained(std::function<void()> ready) {
  if (state_ != State::streaming) return;
  drained_ = std::move(ready);
  if (pending_bytes() <= kDrainedBytes) post_drained();
}

void Exchange::end_stream() {
  if (state_ != State::streaming) return;
  connection_->send("0\r\n\r\n");
  finish(keep_alive_);
}

void Exchange::upgrade(std::string_view protocol, std::function<void(Fd)> taken) {
  if (state_ != State::waiting) return;
  state_ = State::done;
  forget();
  connection_->upgrade(protocol, std::move(taken));
}

void Exchange::on_closed(std::function<void()> gone) {
  if (state_ == State::gone) return post(std::move(gone));
  if (state_ != State::done) gone_ = std::move(gone);
}

void Exchange::client_gone() {
  if (state_ == State::done || state_ == State::gone) return;
  state_ = State::gone;
  const auto gone = std::move(gone_);
  forget();
  if (gone) gone();
}

void Exchange::drained() {
  if (drained_ && pending_bytes() <= kDrainedBytes) post_drained();
}

void Exchange::post(std::function<void()> task) { asio::post(connection_->io(), std::move(task)); }

void Exchange::post_drained() {
  post([weak = weak_from_this(), ready = std::exchange(drained_, nullptr)] {
    if (const auto self = weak.lock(); self && self->state_ == State::streaming) ready();
  });
}

// The callbacks may hold this very responder.
void Exchange::forget() { gone_ = nullptr, drained_ = nullptr; }

void Exchange::finish(bool keep_open) {
  state_ = State::done;
  forget();
  connection_->end_exchange(keep_open);
}

}  // namespace loam::node
