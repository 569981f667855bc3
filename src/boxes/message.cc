#include "boxes/message.h"

#include <array>

#include "base/fd.h"
#include "base/text.h"
#include "engines/local_node.h"

namespace loam::boxes {

Result<void> write_message(int fd, const Json& message) {
  const std::string text = message.dump();
  if (text.size() > kMessageBytesMax) return fail(ErrorCode::too_large, "a message over 256 MiB");
  std::string framed;
  for (int shift = 0; shift < 32; shift += 8)
    framed += static_cast<char>((text.size() >> shift) & 0xff);
  return write_full(fd, framed + text);
}

Result<Json> read_message(int fd) {
  std::array<std::byte, 4> header;
  if (LOAM_TRY(read_full(fd, header)) < header.size())
    return fail(ErrorCode::cancelled, "the connection is gone");
  std::size_t size_bytes = 0;
  for (std::size_t i = header.size(); i-- > 0;)
    size_bytes = (size_bytes << 8) | std::to_integer<std::size_t>(header[i]);
  if (size_bytes > kMessageBytesMax) return fail(ErrorCode::corrupt, "a message over 256 MiB");
  std::string text(size_bytes, '\0');
  if (LOAM_TRY(read_full(fd, std::as_writable_bytes(std::span(text)))) < size_bytes)
    return fail(ErrorCode::cancelled, "the connection is gone");
  return Json::parse(text);
}

Json error_message(const Error& error) {
  return Json::object({{"error", Json::object({{"code", error_code_name(error.code)},
                                               {"text", printable(error.text)}})}});
}

}  // namespace loam::boxes
