#include "node/log_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <vector>

#include "base/files.h"

namespace loam::node {
namespace {

constexpr int kPairTriesMax = 8;  // a rotation between two opens is rare; two in a row rarer
constexpr std::size_t kBlockBytes = 64 * 1024;
constexpr std::size_t kStartBytesMax = 64;

ino_t inode_of(int fd) {
  struct stat status {};
  return ::fstat(fd, &status) == 0 ? status.st_ino : 0;
}

ino_t inode_of(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

off_t size_of(int fd) {
  struct stat status {};
  return ::fstat(fd, &status) == 0 ? status.st_size : 0;
}

// An absent file is no descriptor, not an error.
Result<Fd> open_log(const std::string& path) {
  auto fd = open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!fd && fd.error().code == ErrorCode::not_found) return Fd();
  return fd;
}

// Where the last `lines` lines of the file begin; takes what it found off `lines`.
Result<off_t> tail_of(int fd, std::uint64_t& lines) {
  std::vector<char> block(kBlockBytes);
  const off_t size = size_of(fd);
  off_t end = size;
  while (end > 0) {
    const off_t begin = std::max<off_t>(0, end - static_cast<off_t>(block.size()));
    const ssize_t count = ::pread(fd, block.data(), static_cast<std::size_t>(end - begin), begin);
    if (count <= 0) return fail_errno("reading output");
    for (off_t i = count - 1; i >= 0; --i) {
      const bool ends_a_line = block[static_cast<std::size_t>(i)] == '\n' && begin + i + 1 < size;
      if (ends_a_line && --lines == 0) return begin + i + 1;
    }
    end = begin;
  }
  // The first line of the file has no newline before it.
  if (size > 0) --lines;
  return 0;
}

}  // namespace

Result<LogReader::Pair> LogReader::open_pair() const {
  for (int tries = 0; tries < kPairTriesMax; ++tries) {
    Pair pair;
    pair.previous = LOAM_TRY(open_log(folder_ + "/previous.log"));
    pair.current = LOAM_TRY(open_log(folder_ + "/current.log"));
    const ino_t previous = pair.previous ? inode_of(pair.previous.get()) : 0;
    if (inode_of(folder_ + "/previous.log") != previous) continue;
    // Where it could not be written (a full disk) places are as of the last one that could.
    if (read_starts(pair) || tries + 1 == kPairTriesMax) return pair;
  }
  return fail(ErrorCode::busy, "the output rotates too fast to be read");
}

// False: it speaks of neither file, for both have rotated away meanwhile.
bool LogReader::read_starts(Pair& pair) const {
  const auto previous_size = static_cast<std::uint64_t>(pair.previous ? size_of(pair.previous.get()) : 0);
  const auto text = read_file(folder_ + "/start", kStartBytesMax);
  std::uint64_t inode = 0, start = 0;
  // None yet: the first rotation is under way, or there has been none.
  const bool said = text && std::sscanf(text->c_str(), "%" SCNu64 " %" SCNu64, &inode, &start) == 2;
  if (said && pair.current && inode == inode_of(pair.current.get())) {
    pair.current_start = start;
    pair.previous_start = start - std::min(start, previous_size);
    return true;
  }
  const bool of_previous = !said || (pair.previous && inode == inode_of(pair.previous.get()));
  pair.previous_start = start;
  pair.current_start = start + previous_size;
  return of_previous;
}

Result<void> LogReader::seek(std::uint64_t offset) {
  Pair pair = LOAM_TRY(open_pair());
  const bool in_previous = pair.previous && (offset < pair.current_start || !pair.current);
  file_start_ = in_previous ? pair.previous_start : pair.current_start;
  file_ = std::move(in_previous ? pair.previous : pair.current);
  const auto size = static_cast<std::uint64_t>(file_ ? size_of(file_.get()) : 0);
  offset_ = static_cast<off_t>(std::min(size, offset - std::min(offset, file_start_)));
  return {};
}

Result<void> LogReader::seek_tail(std::uint64_t lines) {
  Pair pair = LOAM_TRY(open_pair());
  if (lines == 0) {
    file_start_ = pair.current ? pair.current_start : pair.previous_start;
    file_ = std::move(pair.current ? pair.current : pair.previous);
    offset_ = file_ ? size_of(file_.get()) : 0;
    return {};
  }
  if (pair.current) offset_ = LOAM_TRY(tail_of(pair.current.get(), lines));
  if (lines > 0 && pair.previous) {
    offset_ = LOAM_TRY(tail_of(pair.previous.get(), lines));
    file_ = std::move(pair.previous);
    file_start_ = pair.previous_start;
  } else {
    file_ = std::move(pair.current);
    file_start_ = pair.current_start;
  }
  return {};
}

Result<bool> LogReader::advance() {
  if (file_ && inode_of(folder_ + "/current.log") == inode_of(file_.get())) return false;
  Pair pair = LOAM_TRY(open_pair());
  const ino_t ours = file_ ? inode_of(file_.get()) : 0;
  // Our file is still open, so that no newer one can have its inode.
  const bool at_previous = pair.previous && file_ && inode_of(pair.previous.get()) == ours;
  const bool to_previous = pair.previous && !at_previous;
  const std::uint64_t next_start = to_previous ? pair.previous_start : pair.current_start;
  Fd next = std::move(to_previous ? pair.previous : pair.current);
  if (!next || (file_ && inode_of(next.get()) == ours)) return false;
  // Bytes that came between our last look at the end and the rotation.
  if (file_ && size_of(file_.get()) > offset_) return true;
  file_ = std::move(next);
  file_start_ = next_start;
  offset_ = 0;
  return true;
}

Result<std::string> LogReader::read(std::size_t size_bytes_max) {
  std::string bytes(size_bytes_max, '\0');
  for (;;) {
    if (file_) {
      const ssize_t count = ::pread(file_.get(), bytes.data(), bytes.size(), offset_);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return fail_errno("reading output");
      if (count > 0) {
        offset_ += count;
        bytes.resize(static_cast<std::size_t>(count));
        return bytes;
      }
    }
    if (!LOAM_TRY(advance())) return std::string();
  }
}

}  // namespace loam::node
