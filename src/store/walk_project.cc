#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/files.h"
#include "base/open_beneath.h"
#include "base/text.h"
#include "store/folder_names.h"
#include "store/listing.h"
#include "store/snapshot.h"
#include "store/snapshot_stream.h"

namespace loam::store {
namespace {

constexpr std::uint32_t kPlainModeBits = 0777;  // set-id and sticky bits mean nothing in a snapshot
constexpr const char* kIgnoreFiles[] = {".gitignore",
                                        ".loamignore"};  // in this order: Loam's own wins

class Walk {
 public:
  Walk(int top, const WalkOptions& options, ProjectVisitor& visitor)
      : top_(top), options_(options), visitor_(visitor) {
    for (const std::string& pattern : options.data_patterns)
      data_.emplace_back(pattern.starts_with("./") ? pattern.substr(2) : pattern);
  }

  Result<void> all() {
    LOAM_CHECK(folder(top_, ""));
    if (!options_.model || files_ > 0) return {};
    return fail(ErrorCode::invalid, "has no file that could be imported; expected the folder that holds the model's files");
  }

 private:
  Result<void> folder(int fd, const std::string& path) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) return cannot_read(path);
    LOAM_CHECK(check_path(path));
    LOAM_CHECK(visitor_.folder(path, status.st_mode & kPlainModeBits));
    const std::size_t rules_before = rules_.size();
    if (!options_.model)
      for (const char* name : kIgnoreFiles) LOAM_CHECK(add_rules(fd, name, path));
    auto names = names_in(fd, kTreeEntriesMax);
    if (!names) return in_context(shown(path), names.error());
    for (const std::string& name : *names)
      LOAM_CHECK(entry(fd, name, path.empty() ? name : path + "/" + name));
    rules_.shrink(rules_before);
    return {};
  }

  static std::string shown(const std::string& path) { return path.empty() ? "." : printable(path); }

  tl::unexpected<Error> cannot_read(const std::string& path) const {
    const int error = errno;
    auto failed = fail_errno(shown(path), error);
    if (error == EACCES || error == EPERM)
      return fail(ErrorCode::denied,
                  failed.value().text + (options_.model ? "; make it readable (chmod u+r), or move it out of the folder"
                                                        : "; make it readable, or name it in .loamignore"));
    return failed;
  }

  // Git does not follow a link of this name, and neither do we.
  Result<void> add_rules(int folder, const char* name, const std::string& base) {
    const auto fd = open_beneath(folder, name, O_RDONLY | O_NOFOLLOW);
    if (!fd) return {};
    struct stat status {};
    if (::fstat(fd->get(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
    const auto text = read_fd(fd->get(), kIgnoreFileBytesMax);
    const std::string path = base.empty() ? name : base + "/" + name;
    if (!text) return in_context(shown(path), text.error());
    rules_.add(*text, base);
    return {};
  }

  bool is_left_out(const std::string& path, const std::string& name, bool is_folder) const {
    if (name == ".git") return true;
    const auto& skip = options_.always_skip;
    if (std::find(skip.begin(), skip.end(), path) != skip.end()) return true;
    if (!is_folder &&
        std::any_of(data_.begin(), data_.end(), [&](const Glob& g) { return g.matches(path); }))
      return true;
    return rules_.ignores_entry(path, is_folder);
  }

  Result<void> entry(int parent, const std::string& name, const std::string& path) {
    struct stat status {};
    if (::fstatat(parent, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) return {};  // gone since the folder was read: an editor's temporary file
      return cannot_read(path);
    }
    if (is_left_out(path, name, S_ISDIR(status.st_mode))) return leave_out(path);
    LOAM_CHECK(check_path(path));
    if (S_ISLNK(status.st_mode)) return symlink(parent, name, path);
    if (S_ISDIR(status.st_mode)) {
      const auto fd = open_beneath(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      if (!fd) return cannot_read(path);
      return folder(fd->get(), path);
    }
    if (!S_ISREG(status.st_mode)) return leave_out(path);
    if (!options_.model && status.st_size > static_cast<off_t>(kSnapshotFileBytesMax))
      return too_large(path, status.st_size);
    const auto fd = open_beneath(parent, name, O_RDONLY | O_NOFOLLOW);
    if (!fd) return cannot_read(path);
    return file(fd->get(), path);
  }

  Result<void> leave_out(const std::string& path) {
    return options_.model ? visitor_.left_out(path) : Result<void>();
  }

  Result<void> symlink(int parent, const std::string& name, const std::string& path) {
    char target[PATH_MAX];
    const ssize_t size = ::readlinkat(parent, name.c_str(), target, sizeof target);
    if (size < 0) return cannot_read(path);
    const std::string_view to(target, static_cast<std::size_t>(size));
    if (options_.model && !open_beneath(top_, path, O_PATH, Links::follow_beneath) && errno == EXDEV)
      return fail(ErrorCode::invalid, shown(path) + ": is a link out of the folder, to " + printable(to) +
                                          "; import a copy that has the file itself in its place (cp -rL FOLDER COPY)");
    return visitor_.symlink(path, to);
  }

  static tl::unexpected<Error> too_large(const std::string& path, off_t size) {
    return fail(ErrorCode::too_large,
                shown(path) + ": has " + format_size(static_cast<std::uint64_t>(size)) +
                    "; a file of a snapshot may have " + format_size(kSnapshotFileBytesMax) +
                    ". Name it under data: or mounts: in loam.yaml, or in .loamignore");
  }

  Result<void> file(int fd, const std::string& path) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) return cannot_read(path);
    if (!S_ISREG(status.st_mode)) return {};
    const auto size = static_cast<std::uint64_t>(status.st_size);
    if (!options_.model && size > kSnapshotFileBytesMax) return too_large(path, status.st_size);
    if (!options_.model && content_bytes_ + size > kSnapshotBytesMax)
      return fail(
          ErrorCode::too_large,
          "the project's files have over " + format_size(kSnapshotBytesMax) + " (at " +
              shown(path) +
              "). Name what is data under data: or mounts: in loam.yaml, or in .loamignore");
    ++files_;
    content_bytes_ += size;
    return visitor_.file(path, fd, status);
  }

  const int top_;
  const WalkOptions& options_;
  ProjectVisitor& visitor_;
  std::vector<Glob> data_;
  IgnoreRules rules_;
  std::uint64_t files_ = 0;
  std::uint64_t content_bytes_ = 0;
};

// The stream of a walk.
class StreamVisitor : public ProjectVisitor {
 public:
  explicit StreamVisitor(SnapshotWriter& writer) : writer_(writer) {}
  Result<void> folder(const std::string& path, std::uint32_t mode) override {
    return writer_.folder(path, mode);
  }
  Result<void> symlink(const std::string& path, std::string_view target) override {
    return writer_.symlink(path, target);
  }
  Result<void> left_out(const std::string& path) override { return writer_.left_out(path); }

  // What was appended since the size was taken (a log) is left for the next snapshot; a file that
  // became shorter has no content that it ever had.
  Result<void> file(const std::string& path, int fd, const struct stat& status) override {
    const auto size = static_cast<std::uint64_t>(status.st_size);
    LOAM_CHECK(writer_.file(path, status.st_mode & kPlainModeBits, size));
    buffer_.resize(std::max<std::size_t>(buffer_.size(), std::min<std::uint64_t>(size, kFrameBytesMax)));
    for (std::uint64_t left = size; left > 0;) {
      const auto part = std::as_writable_bytes(std::span(buffer_))
                            .first(std::min<std::uint64_t>(left, buffer_.size()));
      const auto count = read_full(fd, part);
      if (!count) return in_context(printable(path), count.error());
      if (*count < part.size())
        return fail(ErrorCode::invalid,
                    printable(path) + ": became shorter while it was read; try again");
      LOAM_CHECK(writer_.content({buffer_.data(), *count}));
      left -= *count;
    }
    return {};
  }

 private:
  SnapshotWriter& writer_;
  std::string buffer_;  // as large as the largest file so far, at most a frame
};

}  // namespace

Result<void> visit_project(const std::string& folder, const WalkOptions& options,
                           ProjectVisitor& visitor) {
  const Fd top = LOAM_TRY(open_file(folder, O_RDONLY | O_DIRECTORY));
  return Walk(top.get(), options, visitor).all();
}

Result<void> walk_project(const std::string& folder, const WalkOptions& options, int out_fd) {
  SnapshotWriter writer(out_fd);
  StreamVisitor visitor(writer);
  auto walked = visit_project(folder, options, visitor);
  if (walked) walked = writer.end();
  if (!walked) (void)writer.error(walked.error());
  return walked;
}

}  // namespace loam::store
