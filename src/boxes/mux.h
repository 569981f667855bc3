// Many connections over one pair of byte streams: what an ssh session carries between `loam` here
// and `loam __bridge` on a box (docs/formats/bridge.md). Both ends are this class.
//
//   local socket ──recv──▶ frames ──▶ out() ──▶ ssh ──▶ receive() ──▶ frames ──send──▶ local socket
//
// Each channel may have kWindowBytes on their way in each direction, so that a terminal nobody
// reads holds nothing up but itself. Trust: frames are foreign bytes: type, channel, length and
// window are checked, and a stream that breaks them is an error, after which it must be closed.
// Threads: one; nothing waits here, the caller polls.
#pragma once

#include <poll.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace loam::boxes {

inline constexpr std::size_t kFrameHeaderBytes = 9;
inline constexpr std::size_t kFrameBytesMax = 64u << 10;
inline constexpr std::size_t kWindowBytes = 256u << 10;
inline constexpr std::size_t kChannelsMax = 256;
inline constexpr std::size_t kOutBytesMax = 1u << 20;  // unsent; then nothing more is read

enum class MuxFrame : std::uint8_t {
  open = 1,    // a service's name: from the client alone, with a number never used before
  data = 2,    // bytes
  end = 3,     // no more bytes from this side
  close = 4,   // this side's socket is gone: what came before is still delivered
  credit = 5,  // u32: so many bytes were delivered, as many more may be sent
};
std::string encode_mux_frame(MuxFrame type, std::uint32_t channel, std::string_view payload);

class Mux {
 public:
  // The box's side: the socket that a channel leads to. None: the client may open no channel here.
  using Opener = std::function<Result<Fd>(std::string_view service)>;
  explicit Mux(Opener opener = nullptr) : opener_(std::move(opener)) {}

  // The client's side: `local` is a stream socket.
  void open(Fd local, std::string_view service);
  // Bytes of the other side.
  Result<void> receive(std::string_view bytes);
  // Bytes for the other side; the caller takes from the front what it has sent.
  std::string& out() { return out_; }

  void add_polls(std::vector<pollfd>& polls) const;
  // The entries that add_polls made, after poll(2).
  void handle(const pollfd* polls);
  std::size_t channels() const { return channels_.size(); }

 private:
  struct Channel {
    Fd local;
    std::string to_local;
    std::size_t may_send = kWindowBytes;
    std::size_t delivered = 0;   // not yet credited
    bool local_ended = false;    // its end has been told
    bool remote_ended = false;   // nothing more comes for it
    bool remote_closed = false;  // nothing more is wanted from it
    bool dead = false;
  };
  Result<void> take(MuxFrame type, std::uint32_t number, std::string_view payload);
  Result<void> take_open(std::uint32_t number, std::string_view service);
  Result<void> take_data(Channel& channel, std::uint32_t number, std::string_view payload);
  void send(MuxFrame type, std::uint32_t channel, std::string_view payload = {});
  void read_local(Channel& channel, std::uint32_t number);
  void write_local(Channel& channel, std::uint32_t number);
  void close(Channel& channel, std::uint32_t number);
  void settle(Channel& channel);
  void bury();

  Opener opener_;
  std::string in_, out_;
  std::map<std::uint32_t, Channel> channels_;
  std::uint32_t last_number_ = 0;
};

}  // namespace loam::boxes
