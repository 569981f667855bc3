#include "sim/lines.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <cerrno>

#include "base/files.h"
#include "base/text.h"

namespace loam::sim {
namespace {

constexpr unsigned kReadBytes = 256u << 10;

gzFile handle(void* file) { return static_cast<gzFile>(file); }

}  // namespace

void Lines::Close::operator()(void* file) const { ::gzclose(handle(file)); }

Result<Lines> Lines::open(const std::string& path) {
  Lines lines;
  lines.name_ = path == "-" ? "standard input" : printable(path);
  Fd fd;
  if (path == "-") {
    fd = Fd(::fcntl(0, F_DUPFD_CLOEXEC, 3));
    if (!fd) return fail_errno(lines.name_);
  } else {
    fd = LOAM_TRY(open_file(path, O_RDONLY));
  }
  // Reads what is no gzip as it is.
  gzFile file = ::gzdopen(fd.get(), "rb");
  if (file == nullptr) return fail(ErrorCode::io, lines.name_ + ": cannot be read");
  (void)fd.release();
  ::gzbuffer(file, kReadBytes);
  lines.file_.reset(file);
  return lines;
}

Result<bool> Lines::fill() {
  if (ended_) return false;
  buffer_.erase(0, at_);
  at_ = 0;
  const std::size_t before = buffer_.size();
  buffer_.resize(before + kReadBytes);
  const int count = ::gzread(handle(file_.get()), buffer_.data() + before, kReadBytes);
  int status = Z_OK;
  const int error_number = errno;
  (void)::gzerror(handle(file_.get()), &status);
  buffer_.resize(before + static_cast<std::size_t>(count < 0 ? 0 : count));
  if (status == Z_ERRNO) return fail_errno(name_, error_number);
  if (count < 0 || (status != Z_OK && status != Z_STREAM_END))
    return fail(ErrorCode::corrupt,
                name_ + ": the gzip data is damaged or cut short; expected a whole file");
  if (count == 0) ended_ = true;
  return count > 0;
}

Result<bool> Lines::next(std::string& line) {
  std::size_t searched = at_;
  for (;;) {
    const std::size_t end = buffer_.find('\n', searched);
    if (end == std::string::npos && buffer_.size() - at_ <= kLineBytesMax) {
      const std::size_t seen = buffer_.size() - at_;
      if (LOAM_TRY(fill())) {
        searched = at_ + seen;
        continue;
      }
      if (at_ == buffer_.size()) return false;
    }
    const std::size_t stop = end == std::string::npos ? buffer_.size() : end;
    ++number_;
    if (stop - at_ > kLineBytesMax)
      return fail(ErrorCode::too_large, name_ + ":" + std::to_string(number_) +
                                            ": a line of over " + format_size(kLineBytesMax) +
                                            "; expected a trace, a job on each line");
    line.assign(buffer_, at_, stop - at_);
    at_ = stop + (end == std::string::npos ? 0 : 1);
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (number_ == 1 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
    return true;
  }
}

}  // namespace loam::sim
