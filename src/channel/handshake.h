// How a worker comes to its channel: a socket in a folder that is private to its attempt.
//
//   worker ── {"format":1,"position":0,"signature":{…}} ─────────────────▶ gateway
//   worker ◀── {"format":1,"queue":3} + memfd, eventfd (SCM_RIGHTS) ────── gateway
//         or ◀── {"error":"…"}, then the end
//   worker ── {"ready":true} ───▶ gateway   it has touched every page, so that its cgroup pays for
//   them worker ── {"leaving":true} ─▶ gateway   no more batches, please; the gateway closes when
//   none is out
//
// SOCK_SEQPACKET, one JSON document a packet. The socket's end is the peer's death. Format:
// docs/formats/channel.md. Trust: everything that is read is a foreign process's; limits below.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"
#include "channel/signature.h"

namespace loam::channel {

inline constexpr int kFormatVersion = 1;
inline constexpr std::size_t kPacketBytesMax = 64 * 1024;
inline constexpr std::string_view kSocketName = "channel.sock";

struct Hello {
  std::int64_t position = 0;  // of a feed's consumer; a serving worker has none and says 0
  Signature signature;
};

std::string encode_hello(const Hello& hello);
Result<Hello> parse_hello(std::string_view packet);
enum class WorkerWord { ready, leaving, unknown };
WorkerWord parse_word(std::string_view packet);

// A listening, non-blocking socket FOLDER/channel.sock; what lay there before is replaced. The
// folder may be deeper than a socket's address is long.
Result<Fd> listen_in(const std::string& folder);
// The next connection, non-blocking; invalid where none waits.
Result<Fd> accept_from(int listener);

struct Welcome {
  std::uint32_t queue = 0;
  Fd memfd;
  Fd eventfd;
};
Result<void> send_welcome(int socket, std::uint32_t queue, int memfd, int eventfd);
// Best effort: the peer may be gone.
void send_refusal(int socket, std::string_view error);
Result<void> send_packet(int socket, std::string_view packet);

// One packet; "" at the peer's end, none where nothing is there yet. Descriptors that came along
// are closed.
Result<std::optional<std::string>> receive_packet(int socket);

// The worker's side, for C++ workers and tests: connects, says hello, waits for the answer.
struct Connected {
  Fd socket;
  Welcome welcome;
};
Result<Connected> connect_to(const std::string& folder, std::string_view hello);

}  // namespace loam::channel
