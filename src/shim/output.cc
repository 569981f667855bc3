#include "shim/output.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/files.h"

namespace loam::shim {
namespace {

constexpr std::uint64_t kHalfBytesMin = 4096;

std::uint64_t inode_of(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

}  // namespace

Result<OutputLog> OutputLog::open(const std::string& folder, std::uint64_t size_bytes_max) {
  LOAM_CHECK(make_folders(folder, 0700));
  OutputLog log(folder, std::max(size_bytes_max, 2 * kHalfBytesMin));
  log.current_ = LOAM_TRY(
      open_file(folder + "/current.log", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600));
  struct stat status {};
  if (::fstat(log.current_.get(), &status) != 0) return fail_errno("fstat of the output");
  log.current_bytes_ = static_cast<std::uint64_t>(status.st_size);
  return log;
}

Result<void> OutputLog::rotate() {
  const std::string current = folder_ + "/current.log";
  if (::rename(current.c_str(), (folder_ + "/previous.log").c_str()) != 0)
    return fail_errno("rotate the output");
  current_ = LOAM_TRY(open_file(current, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600));
  start_bytes_ += current_bytes_;
  current_bytes_ = 0;
  write_start();
  return {};
}

// Best effort: without it a reader that comes back begins at the oldest byte.
void OutputLog::write_start() const {
  struct stat status {};
  if (::fstat(current_.get(), &status) != 0) return;
  const std::string path = folder_ + "/start", temporary = path + ".new";
  const auto file = open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
  if (file && write_full(file->get(), std::to_string(status.st_ino) + " " + std::to_string(start_bytes_) + "\n"))
    (void)::rename(temporary.c_str(), path.c_str());
}

bool OutputLog::write_some(std::string_view& bytes) {
  const ssize_t count = ::write(current_.get(), bytes.data(), bytes.size());
  if (count < 0) return errno == EINTR;
  current_bytes_ += static_cast<std::uint64_t>(count);
  bytes.remove_prefix(static_cast<std::size_t>(count));
  return true;
}

void OutputLog::append(std::string_view bytes) {
  if (lost_bytes_ > 0) {
    const std::string note =
        "[loam: " + std::to_string(lost_bytes_) + " bytes of output lost: disk full]\n";
    std::string_view rest = note;
    if (write_some(rest) && rest.empty()) lost_bytes_ = 0;
  }
  while (!bytes.empty()) {
    if (current_bytes_ >= half_bytes_ && !rotate()) {
      lost_bytes_ += bytes.size();
      return;
    }
    std::string_view piece =
        bytes.substr(0, std::min<std::uint64_t>(bytes.size(), half_bytes_ - current_bytes_));
    const std::size_t before = piece.size();
    if (!write_some(piece)) {
      lost_bytes_ += bytes.size();
      return;
    }
    bytes.remove_prefix(before - piece.size());
  }
}

// At the end of a file that has been rotated away: on to the one after it, which is `previous` by
// now where two rotations have passed. The open descriptor keeps the inode's number from being used
// again.
bool LogCursor::advance() {
  const std::string current = folder_ + "/current.log", previous = folder_ + "/previous.log";
  const std::uint64_t current_inode = inode_of(current), previous_inode = inode_of(previous);
  if (file_ && (current_inode == 0 || current_inode == inode_)) return false;
  const bool take_previous = previous_inode != 0 && previous_inode != inode_;
  auto opened = open_file(take_previous ? previous : current, O_RDONLY | O_NOFOLLOW);
  if (!opened) return false;
  file_ = std::move(*opened);
  inode_ = take_previous ? previous_inode : current_inode;
  return true;
}

std::string LogCursor::read_more(std::size_t size_bytes_max) {
  if (!file_ && !advance()) return "";
  std::string bytes(size_bytes_max, '\0');
  for (;;) {
    const ssize_t count = ::read(file_.get(), bytes.data(), bytes.size());
    if (count > 0) {
      bytes.resize(static_cast<std::size_t>(count));
      return bytes;
    }
    if (count < 0 && errno == EINTR) continue;
    if (!advance()) return "";
  }
}

}  // namespace loam::shim
