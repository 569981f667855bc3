// Attach frames: the stream between a client's terminal and a shim, once the node has handed the
// client's connection over. Frame: type (1 byte), length (4 bytes, little endian, at most 64 KiB), payload.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace loam::api {

inline constexpr std::size_t kAttachPayloadBytesMax = 64 * 1024;

enum class AttachFrame : std::uint8_t {
  input = 1,    // client → shim: bytes for standard input; empty: end of input
  output = 2,   // shim → client: bytes of the terminal or of standard output
  error = 3,    // shim → client: bytes of standard error (without a terminal)
  resize = 4,   // client → shim: columns, rows (2 × u16 little endian)
  signal = 5,   // client → shim: number (u8), to the foreground job
  exit = 6,     // shim → client: ExitRecord as JSON; the last frame
};

struct Frame {
  AttachFrame type = AttachFrame::input;
  std::string payload;
};

std::string encode_frame(AttachFrame type, std::string_view payload);

// Collects bytes and yields whole frames; an unknown type or a length over the limit is an error, after
// which the stream must be closed.
class FrameReader {
 public:
  void add(std::string_view bytes) { buffer_ += bytes; }
  Result<std::optional<Frame>> next();

 private:
  std::string buffer_;
};

}  // namespace loam::api
