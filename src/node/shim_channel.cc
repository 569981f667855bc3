#include "node/shim_channel.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

#include "api/attempt.h"
#include "base/log.h"
#include "base/packet.h"

namespace loam::node {
namespace {

constexpr int kPacketsInTurnMax = 16;

// One for all channels: they are read by the loop thread alone.
std::vector<char>& packet_buffer() {
  static std::vector<char> buffer(api::kShimPacketBytesMax);
  return buffer;
}

}  // namespace

ShimChannel::ShimChannel(Loop& loop, Fd socket, std::function<void(const Json&)> received,
                         std::function<void()> gone)
    : socket_(std::move(socket)),
      received_(std::move(received)),
      gone_(std::move(gone)),
      watch_(loop.watch_readable(socket_.get(), [this] { readable(); })) {}

ShimChannel::~ShimChannel() = default;

Result<void> ShimChannel::send(const Json& message, int descriptor) {
  const std::string text = message.dump();
  const std::span<const int> descriptors(&descriptor, descriptor >= 0 ? 1 : 0);
  if (send_packet(socket_.get(), text, descriptors, MSG_DONTWAIT) < 0)
    return fail_errno("telling the shim");
  return {};
}

void ShimChannel::readable() {
  const std::weak_ptr<bool> alive = alive_;
  std::vector<char>& buffer = packet_buffer();
  for (int i = 0; i < kPacketsInTurnMax; ++i) {
    const ssize_t count =
        ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) {
      watch_.reset();
      const auto gone = std::move(gone_);  // it may drop us
      return gone();
    }
    if (static_cast<std::size_t>(count) > buffer.size()) {
      log_warning("a shim's packet over 64 KiB was dropped");
      continue;
    }
    const auto message =
        Json::parse(std::string_view(buffer.data(), static_cast<std::size_t>(count)));
    if (!message) {
      log_warning("a shim's packet that is no JSON was dropped: " + message.error().text);
      continue;
    }
    const auto received = received_;
    received(*message);
    if (alive.expired()) return;
  }
}

}  // namespace loam::node
