#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/text.h"
#include "store/folder_names.h"
#include "store/listing.h"
#include "store/take.h"

namespace loam::store {
namespace {

Meta meta_of(const struct stat& status) {
  Meta meta;
  meta.mode = status.st_mode & 07777;
  meta.uid = status.st_uid;
  meta.gid = status.st_gid;
  return meta;
}

class FolderWalk {
 public:
  FolderWalk(TreeStage& stage, uid_t owner) : stage_(stage), owner_(owner) {}

  Result<void> folder(int fd, const std::string& path) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) return fail_errno(printable(path));
    LOAM_CHECK(stage_.add_folder(path, meta_of(status)));
    const auto names = LOAM_TRY(names_in(fd, kTreeEntriesMax));
    for (const std::string& name : names)
      LOAM_CHECK(entry(fd, name, path.empty() ? name : path + "/" + name));
    return {};
  }

 private:
  // The type is asked before the open: opening a device or a fifo could act on it.
  Result<void> entry(int parent, const std::string& name, const std::string& path) {
    struct stat status {};
    if (::fstatat(parent, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
      return fail_errno(printable(path));
    if (S_ISLNK(status.st_mode)) return symlink(parent, name, path, status);
    if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) {
      stage_.skip();
      return {};
    }
    const int kind = S_ISDIR(status.st_mode) ? O_DIRECTORY : O_NONBLOCK;
    Fd fd(::openat(parent, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC | kind));
    if (!fd) return fail_errno(printable(path));
    if (S_ISDIR(status.st_mode)) return folder(fd.get(), path);
    return file(std::move(fd), path);
  }

  Result<void> symlink(int parent, const std::string& name, const std::string& path,
                       const struct stat& status) {
    char target[PATH_MAX];
    const ssize_t size = ::readlinkat(parent, name.c_str(), target, sizeof target);
    if (size < 0) return fail_errno(printable(path));
    return stage_.add_symlink(path, meta_of(status),
                              std::string(target, static_cast<std::size_t>(size)));
  }

  Result<void> file(Fd fd, const std::string& path) {
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return fail_errno(printable(path));
    if (!S_ISREG(status.st_mode))
      return fail(ErrorCode::invalid, printable(path) + ": changed while it was read; try again");
    // fs.protected_hardlinks=0 lets a user give a name here to what he may not read.
    if (status.st_nlink > 1 && status.st_uid != owner_)
      return fail(ErrorCode::denied, printable(path) + ": a hard link to a file of another user (uid " +
                                         std::to_string(status.st_uid) + "): copy the file instead");
    Meta meta = meta_of(status);
    if (stage_.keeps_xattrs()) {
      auto xattrs = read_xattrs(fd.get());
      if (!xattrs) return in_context(printable(path), xattrs.error());
      meta.xattrs = std::move(*xattrs);
    }
    Content content;
    content.size_bytes = static_cast<std::uint64_t>(status.st_size);
    content.source = std::move(fd);
    return stage_.add_file(path, meta, std::move(content));
  }

  TreeStage& stage_;
  const uid_t owner_;  // of the top folder
};

}  // namespace

Result<void> take_folder(int folder_fd, TreeStage& stage) {
  struct stat status {};
  if (::fstat(folder_fd, &status) != 0) return fail_errno("the folder");
  return FolderWalk(stage, status.st_uid).folder(folder_fd, "");
}

}  // namespace loam::store
