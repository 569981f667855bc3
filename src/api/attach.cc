#include "api/attach.h"

namespace loam::api {
namespace {

constexpr std::size_t kHeaderBytes = 5;

std::size_t length_of(std::string_view header) {
  std::size_t length = 0;
  for (std::size_t i = 0; i < 4; ++i)
    length |= std::size_t{static_cast<unsigned char>(header[1 + i])} << (8 * i);
  return length;
}

}  // namespace

std::string encode_frame(AttachFrame type, std::string_view payload) {
  LOAM_ASSERT(payload.size() <= kAttachPayloadBytesMax);
  std::string frame;
  frame.reserve(kHeaderBytes + payload.size());
  frame.push_back(static_cast<char>(type));
  for (unsigned shift = 0; shift < 32; shift += 8)
    frame.push_back(static_cast<char>((payload.size() >> shift) & 0xff));
  frame.append(payload);
  return frame;
}

Result<std::optional<Frame>> FrameReader::next() {
  if (buffer_.size() < kHeaderBytes) return std::nullopt;
  const auto type = static_cast<unsigned char>(buffer_[0]);
  if (type < static_cast<unsigned char>(AttachFrame::input) ||
      type > static_cast<unsigned char>(AttachFrame::exit))
    return fail(ErrorCode::corrupt, "attach frame: unknown type " + std::to_string(type));
  const std::size_t length = length_of(buffer_);
  if (length > kAttachPayloadBytesMax)
    return fail(ErrorCode::too_large, "attach frame: " + std::to_string(length) +
                                          " bytes, at most " +
                                          std::to_string(kAttachPayloadBytesMax));
  if (buffer_.size() < kHeaderBytes + length) return std::nullopt;
  Frame frame{static_cast<AttachFrame>(type), buffer_.substr(kHeaderBytes, length)};
  buffer_.erase(0, kHeaderBytes + length);
  return frame;
}

}  // namespace loam::api
