#include "base/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

namespace loam {
namespace {

std::string parent_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

Result<std::vector<std::string>> names_in(int fd) {
  std::unique_ptr<DIR, CloseFolder> folder(::fdopendir(fd));
  if (!folder) {
    ::close(fd);
    return fail_errno("fdopendir");
  }
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(folder.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) return fail_errno("readdir");
  std::sort(names.begin(), names.end());
  return names;
}

Result<void> remove_below(int parent, const std::string& name, dev_t device) {
  if (::unlinkat(parent, name.c_str(), 0) == 0 || errno == ENOENT) return {};
  if (errno != EISDIR && errno != EPERM) return fail_errno("unlink " + name);
  const int fd = ::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return fail_errno("open " + name);
  Fd keep(fd);
  struct stat status {};
  if (::fstat(fd, &status) != 0) return fail_errno("stat " + name);
  if (status.st_dev != device) return fail(ErrorCode::busy, name + ": is a mount");
  (void)::fchmod(fd, 0700);
  const auto names = LOAM_TRY(names_in(::fcntl(fd, F_DUPFD_CLOEXEC, 0)));
  for (const std::string& child : names) LOAM_CHECK(remove_below(fd, child, device));
  if (::unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
    return fail_errno("rmdir " + name);
  return {};
}

}  // namespace

Result<Fd> open_file(const std::string& path, int flags, mode_t mode) {
  int fd = -1;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return fail_errno(path);
  return Fd(fd);
}

Result<std::string> read_fd(int fd, std::size_t size_bytes_max) {
  std::string content;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t count = ::read(fd, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno("read");
    if (count == 0) return content;
    if (content.size() + static_cast<std::size_t>(count) > size_bytes_max)
      return fail(ErrorCode::too_large, "over " + std::to_string(size_bytes_max) + " bytes");
    content.append(buffer, static_cast<std::size_t>(count));
  }
}

Result<std::string> read_file(const std::string& path, std::size_t size_bytes_max) {
  const Fd fd = LOAM_TRY(open_file(path, O_RDONLY));
  auto content = read_fd(fd.get(), size_bytes_max);
  if (!content) return in_context(path, content.error());
  return content;
}

Result<void> sync_folder(const std::string& path) {
  const Fd folder = LOAM_TRY(open_file(path, O_RDONLY | O_DIRECTORY));
  if (::fsync(folder.get()) != 0) return fail_errno("fsync " + path);
  return {};
}

Result<void> write_file_atomic(const std::string& path, std::string_view content, WriteOptions options) {
  const std::string temporary = path + ".tmp." + std::to_string(::getpid());
  const auto write_temporary = [&]() -> Result<void> {
    (void)::unlink(temporary.c_str());
    const Fd fd = LOAM_TRY(open_file(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, options.mode));
    if (::fchmod(fd.get(), options.mode) != 0) return fail_errno("chmod");
    LOAM_CHECK(write_full(fd.get(), content));
    if (options.durable && ::fsync(fd.get()) != 0) return fail_errno("fsync");
    return {};
  };
  auto written = write_temporary();
  if (written && ::rename(temporary.c_str(), path.c_str()) != 0) written = fail_errno("rename");
  if (!written) {
    (void)::unlink(temporary.c_str());
    return in_context(path, written.error());
  }
  if (options.durable) return sync_folder(parent_of(path));
  return {};
}

Result<void> make_folders(const std::string& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) == 0) return {};
  if (errno == EEXIST) {
    struct stat status {};
    if (::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) return {};
    return fail(ErrorCode::exists, path + ": is not a folder");
  }
  if (errno != ENOENT) return fail_errno("mkdir " + path);
  LOAM_CHECK(make_folders(parent_of(path), mode));
  if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) return fail_errno("mkdir " + path);
  return {};
}

Result<void> remove_tree(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return {};
    return fail_errno(path);
  }
  const std::string parent = parent_of(path);
  const Fd folder = LOAM_TRY(open_file(parent, O_RDONLY | O_DIRECTORY));
  const auto slash = path.rfind('/');
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  auto removed = remove_below(folder.get(), name, status.st_dev);
  if (!removed) return in_context("remove " + path, removed.error());
  return {};
}

bool path_exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

Result<std::vector<std::string>> list_folder(const std::string& path) {
  Fd fd = LOAM_TRY(open_file(path, O_RDONLY | O_DIRECTORY));
  return names_in(fd.release());
}

std::string program_folder() {
  char buffer[PATH_MAX];
  const ssize_t size = ::readlink("/proc/self/exe", buffer, sizeof buffer);
  if (size <= 0) return "/usr/bin";
  return parent_of(std::string(buffer, static_cast<std::size_t>(size)));
}

std::string program_share_folder() { return parent_of(program_folder()) + "/share/loam"; }

}  // namespace loam
