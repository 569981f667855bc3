#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "base/files.h"
#include "base/open_beneath.h"
#include "trace/request_log.h"
#include "trace/request_log_format.h"

namespace loam::trace {
namespace {

constexpr std::size_t kReadEntries = 1024;    // 72 KiB at a time
constexpr std::size_t kSegmentsReadMax = 72;  // of one search

// Ids are compared first: a checksum costs more, and few ids are the one.
std::optional<RequestEntry> find_in(std::span<const std::byte> bytes, const RequestId& id) {
  for (; bytes.size() >= kEntryBytes; bytes = bytes.subspan(kEntryBytes)) {
    if (std::memcmp(&bytes[kIdOffset], id.bytes.data(), id.bytes.size()) != 0) continue;
    if (auto entry = parse_entry(bytes.first(kEntryBytes))) return entry;
  }
  return std::nullopt;
}

// What cannot be read holds nothing: a segment may go while we look, and the folder's owner may put
// anything there.
std::optional<RequestEntry> find_in_segment(int folder, const std::string& name,
                                            const RequestId& id) {
  const auto fd = open_beneath(folder, name, O_RDONLY | O_NOFOLLOW);
  if (!fd) return std::nullopt;
  struct stat status {};
  if (::fstat(fd->get(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  std::vector<std::byte> buffer(kReadEntries * kEntryBytes);
  const auto header = read_full(fd->get(), std::span(buffer).first(kSegmentHeaderBytes));
  if (!header || *header < kSegmentHeaderBytes ||
      std::memcmp(buffer.data(), kSegmentMagic.data(), kSegmentMagic.size()) != 0)
    return std::nullopt;
  for (std::size_t total = kSegmentHeaderBytes; total < kSegmentBytesMax;) {
    const auto count = read_full(fd->get(), buffer);
    if (!count) return std::nullopt;
    if (auto entry = find_in(std::span(buffer).first(*count), id)) return entry;
    if (*count < buffer.size()) return std::nullopt;
    total += *count;
  }
  return std::nullopt;
}

}  // namespace

// A request is logged when it is answered, so its entry lies in the segment that was open at its
// id's time or in a later one. The clock may have been set back in between: the segment before is
// looked at too.
Result<std::optional<RequestEntry>> find_request(const std::string& folder, const RequestId& id) {
  const Fd fd = LOAM_TRY(open_file(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  const auto starts = LOAM_TRY(list_segments(fd.get()));
  const auto after = std::upper_bound(starts.begin(), starts.end(), id.time_ms());
  auto first = after;
  for (int i = 0; i < 2 && first != starts.begin(); ++i) --first;
  std::size_t read = 0;
  for (auto start = first; start != starts.end() && read < kSegmentsReadMax; ++start, ++read) {
    if (*start > id.time_ms() + kAnswerMsMax) break;
    if (auto entry = find_in_segment(fd.get(), segment_name(*start), id)) return entry;
  }
  return std::nullopt;
}

}  // namespace loam::trace
