// The frames of a snapshot's stream (docs/formats/snapshot.md), written by the walk;
// take_snapshot.cc reads them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace loam::store {

inline constexpr std::string_view kSnapshotMagic = "loam-snapshot 1\n";
inline constexpr std::size_t kFrameHeaderBytes = 5;
inline constexpr std::size_t kFrameBytesMax = 256 * 1024;

enum class Frame : char {
  folder = 'D',   // u32 mode, path
  symlink = 'L',  // u32 bytes of path, path, target
  file = 'F',     // u32 mode, u64 size, path; then content frames that sum up to size
  content = 'B',  // bytes
  left_out = 'S', // path
  error = 'X',    // code's name, '\n', text: the walk failed, nothing follows
  end = 'E',      // u64 entries, u64 bytes of content, u32 crc
};

class SnapshotWriter {
 public:
  explicit SnapshotWriter(int fd) : fd_(fd) { buffer_ = kSnapshotMagic; }

  Result<void> folder(std::string_view path, std::uint32_t mode);
  Result<void> symlink(std::string_view path, std::string_view target);
  Result<void> file(std::string_view path, std::uint32_t mode, std::uint64_t size_bytes);
  Result<void> content(std::string_view bytes);
  Result<void> left_out(std::string_view path);
  Result<void> error(const Error& error);
  Result<void> end();
  std::uint64_t content_bytes() const { return content_bytes_; }

 private:
  Result<void> frame(Frame type, std::string_view payload);
  Result<void> flush();

  int fd_;
  std::string buffer_;
  std::uint64_t entries_ = 0;
  std::uint64_t content_bytes_ = 0;
  std::uint32_t crc_ = 0;  // of all frames but content and the end
};

// Little-endian integers of the stream.
void append_u32(std::string& bytes, std::uint32_t value);
void append_u64(std::string& bytes, std::uint64_t value);
std::uint32_t read_u32(std::string_view bytes);
std::uint64_t read_u64(std::string_view bytes);

}  // namespace loam::store
