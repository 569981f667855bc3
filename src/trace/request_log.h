// The gateway's request log: append-only segments with checksums, at most 100 bytes a request.
// Format: docs/formats/request-log.md. One writer (the gateway's loop); readers open segments as
// foreign bytes. Written with one write() per batch before the answers leave; fsync every second
// (by the writer's owner).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "base/sha256.h"

namespace loam::trace {

// "req-" and 26 characters of Crockford base 32: 48 bits of milliseconds, 80 bits of randomness (as
// ULID).
struct RequestId {
  std::array<std::byte, 16> bytes{};
  std::string text() const;
  std::int64_t time_ms() const;
  static Result<RequestId> parse(std::string_view text);
  bool operator==(const RequestId&) const = default;
};
// Unique within and across processes: time, then random bits (getrandom once, then a counter in
// them).
class RequestIds {
 public:
  RequestIds();
  RequestId next(std::int64_t now_ms);

 private:
  std::array<std::byte, 10> tail_{};
};

struct RequestEntry {
  RequestId id;
  Digest replica;              // record digest; zero where no replica answered
  std::uint16_t status = 200;  // HTTP status of the answer
  std::uint32_t rows = 0;
  std::uint32_t batch_rows = 0;  // of the batch that it was part of
  std::uint32_t queue_us = 0;
  std::uint32_t compute_us = 0;
};

inline constexpr std::size_t kSegmentBytesMax = 64u << 20;
inline constexpr std::size_t kLogBytesMax = 64 * kSegmentBytesMax;
inline constexpr std::size_t kSegmentsMax = 2048;  // far below what a reader looks at
inline constexpr std::size_t kSegmentHeaderBytes = 16;
inline constexpr std::size_t kEntryBytes = 72;
// An answer is logged at most so long after its id was given: what is older lies in earlier
// segments.
inline constexpr std::int64_t kAnswerMsMax = 60 * 60 * 1000;

class RequestLogWriter {
 public:
  // Opens a new segment in the folder (names are times, so sorting them sorts by age); keeps at
  // most `log_bytes_max` in kSegmentsMax of them (the oldest go).
  static Result<RequestLogWriter> open(const std::string& folder,
                                       std::size_t log_bytes_max = kLogBytesMax,
                                       std::size_t segment_bytes_max = kSegmentBytesMax);
  // One write(). After an error (a full disk) nothing of these entries counts; the next append
  // tries again.
  Result<void> append(const std::vector<RequestEntry>& entries);
  Result<void> sync();  // fdatasync where something is new

 private:
  Result<void> start_segment();
  Result<void> remove_oldest();

  std::string folder_;
  Fd segment_;
  std::size_t size_bytes_ = 0;
  std::size_t log_bytes_max_ = 0;
  std::size_t segment_bytes_max_ = 0;
  std::string buffer_;  // of append(), kept for its memory
  bool dirty_ = false;
};

// Searches the segments that may hold the id's time. A torn tail ends a segment silently; a bad
// checksum in the middle skips that entry. The folder may belong to anybody: links, fifos, giant
// and forged files in it are passed by, and at most kSegmentBytesMax of each segment are read.
Result<std::optional<RequestEntry>> find_request(const std::string& folder, const RequestId& id);

}  // namespace loam::trace
