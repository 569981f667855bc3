// Segments of the request log: names, header, entries (docs/formats/request-log.md). Inside trace/
// only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "trace/request_log.h"

namespace loam::trace {

inline constexpr std::string_view kSegmentMagic = "LOAMREQ1";
inline constexpr std::size_t kIdOffset = 8;            // of an entry's id in its bytes
inline constexpr std::size_t kSegmentNamesMax = 4096;  // looked at in a folder

// "requests-0001767225600250.log": the milliseconds of its start, so that names sort by age.
std::string segment_name(std::int64_t start_ms);
std::optional<std::int64_t> segment_start(std::string_view name);
// The starts of all segments in a folder, oldest first; other names are passed by. At most
// kSegmentNamesMax names are read.
Result<std::vector<std::int64_t>> list_segments(int folder_fd);

std::string segment_header(std::int64_t start_ms);                 // kSegmentHeaderBytes
void append_entry(std::string& bytes, const RequestEntry& entry);  // kEntryBytes
// None where the checksum or the kind does not fit. `bytes` has kEntryBytes.
std::optional<RequestEntry> parse_entry(std::span<const std::byte> bytes);

}  // namespace loam::trace
