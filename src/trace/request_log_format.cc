#include "trace/request_log_format.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/crc32c.h"

namespace loam::trace {
namespace {

constexpr std::string_view kNameStart = "requests-";
constexpr std::string_view kNameEnd = ".log";
constexpr std::size_t kNameDigits = 16;
constexpr std::uint16_t kKindRequest = 1;
constexpr std::size_t kCrcBytes = 4;

template <class Number>
void put(std::string& bytes, Number value) {
  for (std::size_t i = 0; i < sizeof value; ++i) bytes += static_cast<char>(value >> (8 * i));
}

template <class Number>
Number get(std::span<const std::byte> bytes, std::size_t offset) {
  Number value = 0;
  for (std::size_t i = sizeof value; i-- > 0;)
    value = static_cast<Number>((value << 8) | std::to_integer<Number>(bytes[offset + i]));
  return value;
}

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

}  // namespace

std::string segment_name(std::int64_t start_ms) {
  char name[64];
  std::snprintf(name, sizeof name, "requests-%016lld.log", static_cast<long long>(start_ms));
  return name;
}

std::optional<std::int64_t> segment_start(std::string_view name) {
  if (name.size() != kNameStart.size() + kNameDigits + kNameEnd.size() ||
      !name.starts_with(kNameStart) || !name.ends_with(kNameEnd))
    return std::nullopt;
  const std::string_view digits = name.substr(kNameStart.size(), kNameDigits);
  std::uint64_t value = 0;
  const auto end = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (end.ec != std::errc() || end.ptr != digits.data() + digits.size()) return std::nullopt;
  return static_cast<std::int64_t>(value);
}

Result<std::vector<std::int64_t>> list_segments(int folder_fd) {
  const int own = ::openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (own < 0) return fail_errno("request log");
  const std::unique_ptr<DIR, CloseFolder> folder(::fdopendir(own));
  if (!folder) {
    const int error = errno;
    ::close(own);
    return fail_errno("request log", error);
  }
  std::vector<std::int64_t> starts;
  for (std::size_t names = 0; names < kSegmentNamesMax; ++names) {
    const dirent* entry = ::readdir(folder.get());
    if (entry == nullptr) break;
    if (const auto start = segment_start(entry->d_name)) starts.push_back(*start);
  }
  std::sort(starts.begin(), starts.end());
  return starts;
}

std::string segment_header(std::int64_t start_ms) {
  std::string bytes(kSegmentMagic);
  put(bytes, static_cast<std::uint64_t>(start_ms));
  return bytes;
}

void append_entry(std::string& bytes, const RequestEntry& entry) {
  const std::size_t start = bytes.size();
  put(bytes, std::uint32_t{0});  // the checksum's place
  put(bytes, kKindRequest);
  put(bytes, entry.status);
  bytes.append(reinterpret_cast<const char*>(entry.id.bytes.data()), entry.id.bytes.size());
  bytes.append(reinterpret_cast<const char*>(entry.replica.bytes.data()),
               entry.replica.bytes.size());
  put(bytes, entry.rows);
  put(bytes, entry.batch_rows);
  put(bytes, entry.queue_us);
  put(bytes, entry.compute_us);
  const std::uint32_t crc = crc32c(std::as_bytes(std::span(bytes).subspan(start + kCrcBytes)));
  for (std::size_t i = 0; i < kCrcBytes; ++i) bytes[start + i] = static_cast<char>(crc >> (8 * i));
}

std::optional<RequestEntry> parse_entry(std::span<const std::byte> bytes) {
  LOAM_ASSERT(bytes.size() == kEntryBytes);
  if (get<std::uint32_t>(bytes, 0) != crc32c(bytes.subspan(kCrcBytes))) return std::nullopt;
  if (get<std::uint16_t>(bytes, 4) != kKindRequest) return std::nullopt;
  RequestEntry entry;
  entry.status = get<std::uint16_t>(bytes, 6);
  std::memcpy(entry.id.bytes.data(), &bytes[kIdOffset], entry.id.bytes.size());
  std::memcpy(entry.replica.bytes.data(), &bytes[24], entry.replica.bytes.size());
  entry.rows = get<std::uint32_t>(bytes, 56);
  entry.batch_rows = get<std::uint32_t>(bytes, 60);
  entry.queue_us = get<std::uint32_t>(bytes, 64);
  entry.compute_us = get<std::uint32_t>(bytes, 68);
  return entry;
}

}  // namespace loam::trace
