#include "boxes/mux.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace loam::boxes {
namespace {

constexpr std::size_t kReadBytes = 32u << 10;

void append_u32(std::string& bytes, std::uint32_t value) {
  for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>((value >> shift) & 0xff);
}

std::uint32_t read_u32(std::string_view bytes) {
  std::uint32_t value = 0;
  for (int i = 3; i >= 0; --i)
    value = (value << 8) | static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]);
  return value;
}

// Both directions of the peer are closed, not only its sending one.
bool is_gone(const Fd& socket) {
  pollfd poll_fd{socket.get(), 0, 0};
  return ::poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & (POLLHUP | POLLERR)) != 0;
}

tl::unexpected<Error> broken(const char* what) {
  return fail(ErrorCode::corrupt,
              std::string("the other side of the ssh session breaks the protocol: ") + what);
}

}  // namespace

std::string encode_mux_frame(MuxFrame type, std::uint32_t channel, std::string_view payload) {
  std::string frame(1, static_cast<char>(type));
  append_u32(frame, channel);
  append_u32(frame, static_cast<std::uint32_t>(payload.size()));
  frame += payload;
  return frame;
}

void Mux::send(MuxFrame type, std::uint32_t channel, std::string_view payload) {
  out_ += encode_mux_frame(type, channel, payload);
}

void Mux::open(Fd local, std::string_view service) {
  if (channels_.size() >= kChannelsMax) return;  // closed: whoever connected hears it at once
  const std::uint32_t number = ++last_number_;
  send(MuxFrame::open, number, service);
  channels_[number].local = std::move(local);
}

Result<void> Mux::receive(std::string_view bytes) {
  in_ += bytes;
  std::size_t used = 0;
  while (in_.size() - used >= kFrameHeaderBytes) {
    const std::string_view rest = std::string_view(in_).substr(used);
    const std::uint32_t size_bytes = read_u32(rest.substr(5));
    if (size_bytes > kFrameBytesMax) return broken("a frame over 64 KiB");
    if (rest.size() < kFrameHeaderBytes + size_bytes) break;
    LOAM_CHECK(take(static_cast<MuxFrame>(rest[0]), read_u32(rest.substr(1)),
                    rest.substr(kFrameHeaderBytes, size_bytes)));
    used += kFrameHeaderBytes + size_bytes;
  }
  in_.erase(0, used);
  bury();
  return {};
}

Result<void> Mux::take(MuxFrame type, std::uint32_t number, std::string_view payload) {
  if (type == MuxFrame::open) return take_open(number, payload);
  if (type < MuxFrame::open || type > MuxFrame::credit) return broken("a frame of no known type");
  if (number == 0 || number > last_number_) return broken("a channel that was never opened");
  const auto found = channels_.find(number);
  if (found == channels_.end()) return {};  // gone here; the other side did not know yet
  Channel& channel = found->second;
  switch (type) {
    case MuxFrame::data:
      return take_data(channel, number, payload);
    case MuxFrame::credit: {
      if (payload.size() != 4) return broken("a credit without its number");
      const std::size_t credit = read_u32(payload);
      if (channel.may_send + credit > kWindowBytes) return broken("a credit for bytes never sent");
      channel.may_send += credit;
      return {};
    }
    case MuxFrame::close:
      channel.remote_closed = true;
      [[fallthrough]];
    default:
      channel.remote_ended = true;
      settle(channel);
      return {};
  }
}

Result<void> Mux::take_open(std::uint32_t number, std::string_view service) {
  if (!opener_) return broken("it opens a channel");
  if (number <= last_number_) return broken("a channel's number used twice");
  last_number_ = number;
  auto local = channels_.size() < kChannelsMax ? opener_(service)
                                               : fail(ErrorCode::busy, "too many channels");
  if (local)
    channels_[number].local = std::move(*local);
  else
    send(MuxFrame::close, number);
  return {};
}

Result<void> Mux::take_data(Channel& channel, std::uint32_t number, std::string_view payload) {
  if (channel.remote_ended) return broken("bytes after a channel's end");
  if (channel.to_local.size() + channel.delivered + payload.size() > kWindowBytes)
    return broken("more bytes than the window allows");
  channel.to_local += payload;
  write_local(channel, number);
  return {};
}

// Sends what the socket takes, and credits it once it is half a window.
void Mux::write_local(Channel& channel, std::uint32_t number) {
  while (!channel.to_local.empty()) {
    const ssize_t count = ::send(channel.local.get(), channel.to_local.data(),
                                 channel.to_local.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    if (count < 0) {  // nobody reads it: it is lost, and what was said before that still comes
      if (channel.local_ended) return close(channel, number);
      channel.delivered += channel.to_local.size();
      channel.to_local.clear();
      break;
    }
    channel.to_local.erase(0, static_cast<std::size_t>(count));
    channel.delivered += static_cast<std::size_t>(count);
  }
  if (channel.delivered >= kWindowBytes / 2) {
    std::string credit;
    append_u32(credit, static_cast<std::uint32_t>(std::exchange(channel.delivered, 0)));
    send(MuxFrame::credit, number, credit);
  }
  settle(channel);
}

void Mux::read_local(Channel& channel, std::uint32_t number) {
  std::array<char, kReadBytes> buffer;
  const ssize_t count = ::recv(channel.local.get(), buffer.data(),
                               std::min(buffer.size(), channel.may_send), MSG_DONTWAIT);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count < 0 || (count == 0 && is_gone(channel.local))) return close(channel, number);
  if (count == 0) {
    channel.local_ended = true;
    send(MuxFrame::end, number);
    return settle(channel);
  }
  channel.may_send -= static_cast<std::size_t>(count);
  send(MuxFrame::data, number, {buffer.data(), static_cast<std::size_t>(count)});
}

void Mux::close(Channel& channel, std::uint32_t number) {
  if (!channel.remote_closed) send(MuxFrame::close, number);
  channel.dead = true;
}

// What is left to do once all that came has been delivered.
void Mux::settle(Channel& channel) {
  if (!channel.remote_ended || !channel.to_local.empty()) return;
  if (channel.remote_closed || channel.local_ended)
    channel.dead = true;
  else
    ::shutdown(channel.local.get(), SHUT_WR);
}

void Mux::bury() {
  std::erase_if(channels_, [](const auto& entry) { return entry.second.dead; });
}

void Mux::add_polls(std::vector<pollfd>& polls) const {
  for (const auto& [number, channel] : channels_) {
    const bool reads = !channel.local_ended && !channel.remote_closed && channel.may_send > 0 &&
                       out_.size() < kOutBytesMax;
    const auto events =
        static_cast<short>((reads ? POLLIN : 0) | (channel.to_local.empty() ? 0 : POLLOUT));
    // One without a wish is left out: its hang-up would be told again and again.
    polls.push_back({events != 0 ? channel.local.get() : -1, events, 0});
  }
}

void Mux::handle(const pollfd* polls) {
  for (auto& [number, channel] : channels_) {
    const pollfd& polled = *polls++;
    if (polled.revents == 0) continue;
    if ((polled.events & POLLOUT) != 0 && (polled.revents & (POLLOUT | POLLHUP | POLLERR)) != 0)
      write_local(channel, number);
    if (!channel.dead && (polled.events & POLLIN) != 0 &&
        (polled.revents & (POLLIN | POLLHUP | POLLERR)) != 0)
      read_local(channel, number);
  }
  bury();
}

}  // namespace loam::boxes
