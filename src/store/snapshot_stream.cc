#include "store/snapshot_stream.h"

#include "base/crc32c.h"
#include "base/fd.h"

namespace loam::store {

void append_u32(std::string& bytes, std::uint32_t value) {
  for (int i = 0; i < 4; ++i) bytes += static_cast<char>(value >> (8 * i));
}

void append_u64(std::string& bytes, std::uint64_t value) {
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(value >> (8 * i));
}

std::uint32_t read_u32(std::string_view bytes) {
  std::uint32_t value = 0;
  for (std::size_t i = 4; i-- > 0;) value = (value << 8) | static_cast<unsigned char>(bytes[i]);
  return value;
}

std::uint64_t read_u64(std::string_view bytes) {
  return read_u32(bytes) | (std::uint64_t{read_u32(bytes.substr(4))} << 32);
}

Result<void> SnapshotWriter::frame(Frame type, std::string_view payload) {
  const std::size_t start = buffer_.size();
  buffer_ += static_cast<char>(type);
  append_u32(buffer_, static_cast<std::uint32_t>(payload.size()));
  buffer_ += payload;
  if (type != Frame::content && type != Frame::end)
    crc_ = crc32c(std::as_bytes(std::span(buffer_).subspan(start)), crc_);
  return buffer_.size() >= kFrameBytesMax ? flush() : Result<void>();
}

Result<void> SnapshotWriter::flush() {
  LOAM_CHECK(write_full(fd_, buffer_));
  buffer_.clear();
  return {};
}

Result<void> SnapshotWriter::folder(std::string_view path, std::uint32_t mode) {
  std::string payload;
  append_u32(payload, mode);
  payload += path;
  ++entries_;
  return frame(Frame::folder, payload);
}

Result<void> SnapshotWriter::symlink(std::string_view path, std::string_view target) {
  std::string payload;
  append_u32(payload, static_cast<std::uint32_t>(path.size()));
  payload += path;
  payload += target;
  ++entries_;
  return frame(Frame::symlink, payload);
}

Result<void> SnapshotWriter::file(std::string_view path, std::uint32_t mode,
                                  std::uint64_t size_bytes) {
  std::string payload;
  append_u32(payload, mode);
  append_u64(payload, size_bytes);
  payload += path;
  ++entries_;
  content_bytes_ += size_bytes;
  return frame(Frame::file, payload);
}

Result<void> SnapshotWriter::content(std::string_view bytes) {
  return frame(Frame::content, bytes);
}

Result<void> SnapshotWriter::left_out(std::string_view path) {
  ++entries_;
  return frame(Frame::left_out, path);
}

Result<void> SnapshotWriter::error(const Error& error) {
  LOAM_CHECK(frame(Frame::error, std::string(error_code_name(error.code)) + "\n" +
                                     error.text.substr(0, 64 * 1024)));
  return flush();
}

Result<void> SnapshotWriter::end() {
  std::string payload;
  append_u64(payload, entries_);
  append_u64(payload, content_bytes_);
  append_u32(payload, crc_);
  LOAM_CHECK(frame(Frame::end, payload));
  return flush();
}

}  // namespace loam::store
