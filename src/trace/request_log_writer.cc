#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/clock.h"
#include "base/files.h"
#include "trace/request_log.h"
#include "trace/request_log_format.h"

namespace loam::trace {

Result<RequestLogWriter> RequestLogWriter::open(const std::string& folder, std::size_t log_bytes_max,
                                                std::size_t segment_bytes_max) {
  RequestLogWriter writer;
  writer.folder_ = folder;
  writer.log_bytes_max_ = log_bytes_max;
  writer.segment_bytes_max_ =
      std::clamp(segment_bytes_max, kSegmentHeaderBytes + kEntryBytes, kSegmentBytesMax);
  LOAM_CHECK(make_folders(folder, 0700));
  LOAM_CHECK(writer.start_segment());
  return writer;
}

// A name later than every other one, whatever the clock did: readers go by the names' order.
Result<void> RequestLogWriter::start_segment() {
  LOAM_CHECK(sync());
  segment_.reset();
  const Fd folder = LOAM_TRY(open_file(folder_, O_RDONLY | O_DIRECTORY));
  const auto starts = LOAM_TRY(list_segments(folder.get()));
  std::int64_t start = wall_ms();
  if (!starts.empty()) start = std::max(start, starts.back() + 1);
  Fd fd(::openat(folder.get(), segment_name(start).c_str(),
                 O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return fail_errno("request log " + folder_);
  const std::string header = segment_header(start);
  if (auto written = write_full(fd.get(), header); !written) {
    (void)::unlinkat(folder.get(), segment_name(start).c_str(),
                     0);  // else a full disk leaves one each time
    return in_context("request log " + folder_, written.error());
  }
  if (::fsync(folder.get()) != 0) return fail_errno("request log " + folder_);
  segment_ = std::move(fd);
  size_bytes_ = header.size();
  dirty_ = true;
  return remove_oldest();
}

// By their bytes, not their number: a gateway that starts often makes short ones. Those of which
// nothing came go once nobody can still write to them.
Result<void> RequestLogWriter::remove_oldest() {
  const Fd folder = LOAM_TRY(open_file(folder_, O_RDONLY | O_DIRECTORY));
  const auto starts = LOAM_TRY(list_segments(folder.get()));
  std::size_t kept = 0, kept_bytes = 0;
  for (std::size_t i = starts.size(); i-- > 0;) {
    const std::string name = segment_name(starts[i]);
    struct stat status {};
    if (::fstatat(folder.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
    const auto bytes = static_cast<std::size_t>(status.st_size);
    const bool newest = i + 1 == starts.size();
    const bool empty = bytes <= kSegmentHeaderBytes && starts[i] + kAnswerMsMax < starts.back();
    if (newest || (!empty && kept < kSegmentsMax && kept_bytes + bytes <= log_bytes_max_)) {
      ++kept;
      kept_bytes += bytes;
    } else if (::unlinkat(folder.get(), name.c_str(), 0) != 0 && errno != ENOENT) {
      return fail_errno("request log " + folder_);
    }
  }
  return {};
}

// Entries have one size, so a part of one in the middle would shift all that come after it: where a
// write fails half-way, the segment ends there as a torn tail does.
Result<void> RequestLogWriter::append(const std::vector<RequestEntry>& entries) {
  if (entries.empty()) return {};
  const std::size_t more = entries.size() * kEntryBytes;
  const bool is_full = size_bytes_ > kSegmentHeaderBytes && size_bytes_ + more > segment_bytes_max_;
  if (!segment_ || is_full) LOAM_CHECK(start_segment());
  buffer_.clear();
  for (const RequestEntry& entry : entries) append_entry(buffer_, entry);
  dirty_ = true;
  ssize_t count = 0;
  do {
    count = ::write(segment_.get(), buffer_.data(), buffer_.size());
  } while (count < 0 && errno == EINTR);
  if (count == static_cast<ssize_t>(buffer_.size())) {
    size_bytes_ += buffer_.size();
    return {};
  }
  const int error =
      count < 0 ? errno : ENOSPC;  // write(2): fewer bytes where the disk has room for no more
  if (::ftruncate(segment_.get(), static_cast<off_t>(size_bytes_)) != 0) segment_.reset();
  return fail_errno("request log " + folder_, error);
}

Result<void> RequestLogWriter::sync() {
  if (!dirty_ || !segment_) return {};
  if (::fdatasync(segment_.get()) != 0) return fail_errno("request log " + folder_);
  dirty_ = false;
  return {};
}

}  // namespace loam::trace
