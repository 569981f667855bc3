#include "node/http_connection.h"

#include <sys/socket.h>

#include <chrono>
#include <utility>

namespace loam::node {
namespace {

constexpr std::int64_t kNeverMs = 9'000'000'000'000;  // in 2255; system_clock counts nanoseconds, to 2262

}  // namespace

void RemoteStream::watch(Fd life, std::function<void()> gone) {
  gone_ = std::move(gone);
  SystemError error;
  life_.assign(asio::local::stream_protocol(), life.get(), error);
  if (error) return ended();  // without it the connection could not be ended
  (void)life.release();
  life_.async_wait(Socket::wait_read,
                   [self = shared_from_this()](const SystemError&) { self->ended(); });
  at_expiry(expiry_, caller_, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->end();
  });
}

void RemoteStream::end() {
  const char word = 0;
  if (life_.is_open()) (void)!::send(life_.native_handle(), &word, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
  ended();
}

void RemoteStream::ended() {
  const auto self = shared_from_this();
  SystemError ignored;
  expiry_.cancel();
  life_.close(ignored);
  if (const auto gone = std::exchange(gone_, nullptr)) gone();
}

void at_expiry(asio::system_timer& timer, const Caller& caller, std::function<void()> late) {
  if (caller.token_until_ms == 0 || caller.token_until_ms >= kNeverMs) return;
  timer.expires_at(std::chrono::system_clock::time_point(std::chrono::milliseconds(caller.token_until_ms)));
  timer.async_wait([late = std::move(late)](const SystemError& stopped) {
    if (!stopped) late();
  });
}

}  // namespace loam::node
