// The project's folder on disk, with the caller's own rights. Links that lead out of it do not
// count, as they do not for the snapshot and the sandbox (openat2(2), RESOLVE_BENEATH).
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "base/fd.h"
#include "base/files.h"
#include "base/glob.h"
#include "base/text.h"
#include "spec/project.h"

namespace loam::spec {
namespace {

constexpr std::size_t kWalkEntriesMax = 200'000;
constexpr std::size_t kWalkDepthMax = 64;

Fd open_beneath(int folder, const std::string& relative, int flags) {
  open_how how{};
  // openat2 refuses flags that mean nothing beside O_PATH.
  if ((flags & O_PATH) == 0) flags |= O_NONBLOCK | O_NOCTTY;
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  return Fd(static_cast<int>(syscall(SYS_openat2, folder, relative.c_str(), &how, sizeof how)));
}

Fd open_folder(const std::string& path) {
  return Fd(open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
}

bool is_regular(int fd) {
  struct stat status {};
  return fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

// Counts files that match, below one folder.
class Walk {
 public:
  Walk(int root, std::string_view pattern, std::size_t count_max)
      : root_(root), pattern_(pattern), glob_(pattern), count_max_(count_max) {}

  // Where the limit ends the walk, a match can't be ruled out.
  std::size_t count(const std::string& folder) {
    return finds_all(folder, 0) ? std::max<std::size_t>(count_, 1) : count_;
  }

 private:
  // True: nothing more is to be looked for.
  bool finds_all(const std::string& folder, std::size_t depth) {
    const std::string here = folder.empty() ? "." : folder;
    Fd fd = open_beneath(root_, here, O_RDONLY | O_DIRECTORY);
    if (!fd || depth > kWalkDepthMax) return false;
    std::unique_ptr<DIR, CloseDirectory> directory(fdopendir(fd.get()));
    if (!directory) return false;
    fd.release();
    while (const dirent* entry = readdir(directory.get())) {
      const std::string_view name = entry->d_name;
      if (name == "." || name == "..") continue;
      if (++entries_ > kWalkEntriesMax) return true;
      const std::string path =
          folder.empty() ? std::string(name) : folder + "/" + std::string(name);
      if (is_folder(*entry, path) ? finds_below(path, depth) : takes_file(path)) return true;
    }
    return false;
  }

  // Some filesystems do not say what an entry is.
  bool is_folder(const dirent& entry, const std::string& path) const {
    if (entry.d_type != DT_UNKNOWN) return entry.d_type == DT_DIR;
    struct stat status {};
    return fstatat(root_, path.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISDIR(status.st_mode);
  }
  bool finds_below(const std::string& path, std::size_t depth) {
    // Deeper than the pattern has components there is nothing, unless a ** takes any number.
    const bool any_depth = pattern_.find("**") != std::string_view::npos;
    if (!any_depth && split(path, '/').size() >= split(pattern_, '/').size()) return false;
    return finds_all(path, depth + 1);
  }
  bool takes_file(const std::string& path) {
    const bool matches = glob_.matches(path) && is_regular(open_beneath(root_, path, O_PATH).get());
    return matches && ++count_ >= count_max_;
  }

  int root_;
  std::string_view pattern_;
  Glob glob_;
  const std::size_t count_max_;
  std::size_t count_ = 0;
  std::size_t entries_ = 0;
};

}  // namespace

bool DiskFolder::has_file(const std::string& relative) const {
  const Fd root = open_folder(path_);
  return root.valid() && is_regular(open_beneath(root.get(), relative, O_PATH).get());
}

std::size_t DiskFolder::matches(const std::string& pattern, std::size_t count_max) const {
  if (has_file(pattern)) return 1;  // no wildcard, or a name that looks like one
  const Fd root = open_folder(path_);
  return root.valid() ? Walk(root.get(), pattern, count_max).count(pattern_folder(pattern)) : 0;
}

std::vector<std::string> DiskFolder::files_beside(const std::string& relative) const {
  const Fd root = open_folder(path_);
  const auto slash = relative.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : relative.substr(0, slash);
  Fd fd = open_beneath(root.get(), folder, O_RDONLY | O_DIRECTORY);
  std::unique_ptr<DIR, CloseDirectory> directory(fd ? fdopendir(fd.get()) : nullptr);
  std::vector<std::string> names;
  if (!directory) return names;
  fd.release();
  while (const dirent* entry = readdir(directory.get())) {
    if (names.size() == kWalkEntriesMax) break;
    if (is_regular(open_beneath(root.get(), folder + "/" + entry->d_name, O_PATH).get()))
      names.emplace_back(entry->d_name);
  }
  return names;
}

Result<std::string> DiskFolder::read(const std::string& relative) const {
  const Fd root = open_folder(path_);
  if (!root) return fail_errno(path_);
  const Fd file = open_beneath(root.get(), relative, O_RDONLY);
  if (!file) return fail_errno(relative);
  if (!is_regular(file.get())) return fail(ErrorCode::invalid, relative + " is no regular file");
  return read_fd(file.get(), kFileBytesMax);
}

}  // namespace loam::spec
