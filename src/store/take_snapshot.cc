#include <algorithm>
#include <cstring>

#include "base/crc32c.h"
#include "base/text.h"
#include "store/snapshot.h"
#include "store/snapshot_stream.h"
#include "store/take.h"

namespace loam::store {
namespace {

constexpr std::uint32_t kPlainModeBits = 0777;
constexpr std::size_t kEndBytes = 20;

class SnapshotReader {
 public:
  SnapshotReader(int fd, TreeStage& stage) : fd_(fd), stage_(stage) {}

  Result<void> read_all() {
    LOAM_CHECK(read_exactly(kSnapshotMagic.size()));
    if (payload_ != kSnapshotMagic) return wrong("does not begin as one of version 1");
    for (;;) {
      const Frame type = LOAM_TRY(read_frame());
      switch (type) {
        case Frame::folder:
          LOAM_CHECK(folder());
          break;
        case Frame::symlink:
          LOAM_CHECK(symlink());
          break;
        case Frame::file:
          LOAM_CHECK(file());
          break;
        case Frame::left_out:
          stage_.skip(payload_);
          break;
        case Frame::error:
          return reported_error();
        case Frame::end:
          return end();
        default:
          return wrong("has a frame of unknown or misplaced type");
      }
      ++entries_;
    }
  }

 private:
  static tl::unexpected<Error> wrong(const std::string& finding) {
    return fail(ErrorCode::corrupt, "snapshot stream " + finding);
  }

  Result<void> read_exactly(std::size_t size) {
    payload_.resize(size);
    const std::size_t count = LOAM_TRY(read_full(fd_, std::as_writable_bytes(std::span(payload_))));
    if (count < size) return wrong("is cut short");
    return {};
  }

  // The frame's payload is in payload_ afterwards.
  Result<Frame> read_frame() {
    LOAM_CHECK(read_exactly(kFrameHeaderBytes));
    const std::string header = payload_;
    const std::uint32_t size = read_u32(std::string_view(header).substr(1));
    if (size > kFrameBytesMax) return wrong("has a frame over the limit");
    LOAM_CHECK(read_exactly(size));
    const Frame type{header[0]};
    if (type != Frame::content && type != Frame::end) {
      crc_ = crc32c(std::as_bytes(std::span(header)), crc_);
      crc_ = crc32c(std::as_bytes(std::span(payload_)), crc_);
    }
    return type;
  }

  Result<void> folder() {
    if (payload_.size() < 4) return wrong("has a short folder frame");
    return stage_.add_folder(payload_.substr(4), meta());
  }

  Meta meta() const {
    Meta meta;
    meta.mode = read_u32(payload_) & kPlainModeBits;
    return meta;
  }

  Result<void> symlink() {
    if (payload_.size() < 4) return wrong("has a short symlink frame");
    const std::size_t path_size = read_u32(payload_);
    if (path_size > payload_.size() - 4) return wrong("has a short symlink frame");
    return stage_.add_symlink(payload_.substr(4, path_size), Meta{},
                              payload_.substr(4 + path_size));
  }

  Result<void> file() {
    if (payload_.size() < 12) return wrong("has a short file frame");
    const Meta file_meta = meta();
    const std::string path = payload_.substr(12);
    Content content;
    content.size_bytes = read_u64(std::string_view(payload_).substr(4));
    LOAM_CHECK(stage_.check_size(path, content.size_bytes));
    content_bytes_ += content.size_bytes;
    if (content.size_bytes <= kSmallFileMax) {
      LOAM_CHECK(read_content(content.size_bytes, [&](std::string_view bytes) -> Result<void> {
        content.bytes += bytes;
        return {};
      }));
    } else {
      TreeStage::Spool spool = LOAM_TRY(stage_.spool());
      LOAM_CHECK(read_content(content.size_bytes, [&](std::string_view bytes) {
        return stage_.write(spool, std::as_bytes(std::span(bytes)));
      }));
      content.source = std::move(spool.fd);
      content.spooled = std::move(spool.name);
    }
    return stage_.add_file(path, file_meta, std::move(content));
  }

  template <class Take>
  Result<void> read_content(std::uint64_t size, Take take) {
    while (size > 0) {
      const Frame type = LOAM_TRY(read_frame());
      if (type == Frame::error) return reported_error();
      if (type != Frame::content || payload_.empty() || payload_.size() > size)
        return wrong("has content that does not fit its file");
      LOAM_CHECK(take(payload_));
      size -= payload_.size();
    }
    return {};
  }

  // The walk's own words; control bytes are made visible, since a person will read them.
  Result<void> reported_error() const {
    const auto line = payload_.find('\n');
    if (line == std::string::npos) return wrong("has a short error frame");
    const std::string_view name = std::string_view(payload_).substr(0, line);
    ErrorCode code = ErrorCode::io;
    for (int i = 0; i <= static_cast<int>(ErrorCode::io); ++i)
      if (error_code_name(static_cast<ErrorCode>(i)) == name) code = static_cast<ErrorCode>(i);
    return fail(code, printable(payload_.substr(line + 1)));
  }

  Result<void> end() {
    if (payload_.size() != kEndBytes || read_u64(payload_) != entries_ ||
        read_u64(std::string_view(payload_).substr(8)) != content_bytes_ ||
        read_u32(std::string_view(payload_).substr(16)) != crc_)
      return wrong("has an end that does not fit what came before");
    std::byte more{};
    if (LOAM_TRY(read_full(fd_, std::span(&more, 1))) != 0) return wrong("goes on after its end");
    return {};
  }

  int fd_;
  TreeStage& stage_;
  std::string payload_;
  std::uint64_t entries_ = 0;
  std::uint64_t content_bytes_ = 0;
  std::uint32_t crc_ = 0;
};

}  // namespace

Result<void> take_snapshot(int stream_fd, TreeStage& stage) {
  return SnapshotReader(stream_fd, stage).read_all();
}

}  // namespace loam::store
