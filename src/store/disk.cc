#include "store/disk.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>

#include "base/text.h"
#include "store/owners.h"

namespace loam::store {
namespace {

// One constant for every entry, so that equal trees are equal in every byte. Not 0: some tools take
// 0 for "unknown".
constexpr timespec kTreeTime{.tv_sec = 1, .tv_nsec = 0};

int as_errno(int result) { return result == 0 ? 0 : errno; }

}  // namespace

Result<Fd> Disk::create(int folder, const std::string& name) const {
  if (const int fault = before("create", name); fault != 0) return failed(fault, name);
  Fd fd(::openat(folder, name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return failed(errno, name);
  return fd;
}

int Disk::make_folder(int folder, const std::string& name) const {
  if (const int fault = before("make_folder", name); fault != 0) return fault;
  return as_errno(::mkdirat(folder, name.c_str(), 0700));
}

int Disk::symlink(const std::string& target, int folder, const std::string& name) const {
  if (const int fault = before("symlink", name); fault != 0) return fault;
  return as_errno(::symlinkat(target.c_str(), folder, name.c_str()));
}

int Disk::link(int from_folder, const std::string& from, int to_folder,
               const std::string& to) const {
  if (const int fault = before("link", to); fault != 0) return fault;
  return as_errno(::linkat(from_folder, from.c_str(), to_folder, to.c_str(), 0));
}

int Disk::rename(int from_folder, const std::string& from, int to_folder,
                 const std::string& to) const {
  if (const int fault = before("rename", to); fault != 0) return fault;
  return as_errno(::renameat(from_folder, from.c_str(), to_folder, to.c_str()));
}

int Disk::unlink(int folder, const std::string& name) const {
  if (const int fault = before("unlink", name); fault != 0) return fault;
  return as_errno(::unlinkat(folder, name.c_str(), 0));
}

int Disk::write(int fd, std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    if (const int fault = before("write", ""); fault != 0) return fault;
    const ssize_t count = ::write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno != EINTR) return errno;
    if (count > 0) bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return 0;
}

int Disk::sync(int fd) const {
  if (const int fault = before("sync", ""); fault != 0) return fault;
  return as_errno(::fsync(fd));
}

int Disk::sync_all(int fd) const {
  if (const int fault = before("sync_all", ""); fault != 0) return fault;
  return as_errno(::syncfs(fd));
}

int Disk::clone(int from, int to) const {
  if (const int fault = before("clone", ""); fault != 0) return fault;
  return as_errno(::ioctl(to, FICLONE, from));
}

int Disk::set_owner(int fd, uid_t uid, gid_t gid) const {
  if (const int fault = before("set_owner", ""); fault != 0) return fault;
  return as_errno(::fchown(fd, owners().uid_on_disk(uid), owners().gid_on_disk(gid)));
}

int Disk::set_mode(int fd, mode_t mode) const {
  if (const int fault = before("set_mode", ""); fault != 0) return fault;
  return as_errno(::fchmod(fd, mode));
}

int Disk::set_xattr(int fd, const std::string& name, std::string_view value) const {
  if (const int fault = before("set_xattr", name); fault != 0) return fault;
  return as_errno(::fsetxattr(fd, name.c_str(), value.data(), value.size(), 0));
}

int Disk::set_time(int fd) const {
  if (const int fault = before("set_time", ""); fault != 0) return fault;
  const timespec times[2] = {kTreeTime, kTreeTime};
  return as_errno(::futimens(fd, times));
}

int Disk::set_symlink_meta(int folder, const std::string& name, uid_t uid, gid_t gid) const {
  if (const int fault = before("set_symlink_meta", name); fault != 0) return fault;
  const Owners& here = owners();
  if (::fchownat(folder, name.c_str(), here.uid_on_disk(uid), here.gid_on_disk(gid),
                 AT_SYMLINK_NOFOLLOW) != 0)
    return errno;
  const timespec times[2] = {kTreeTime, kTreeTime};
  return as_errno(::utimensat(folder, name.c_str(), times, AT_SYMLINK_NOFOLLOW));
}

int Disk::read(int fd, std::span<std::byte> buffer, std::size_t& done) const {
  if (const int fault = before("read", ""); fault != 0) return fault;
  for (;;) {
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    done = static_cast<std::size_t>(count);
    return 0;
  }
}

std::uint64_t Disk::free_bytes() const {
  struct statvfs status {};
  if (::statvfs(root_.c_str(), &status) != 0) return 0;
  return static_cast<std::uint64_t>(status.f_bavail) * status.f_frsize;
}

tl::unexpected<Error> Disk::failed(int error_number, std::string_view path) const {
  const std::string where = "store " + root_ + (path.empty() ? "" : ": " + printable(path));
  if (error_number == ENOSPC || error_number == EDQUOT)
    return fail(ErrorCode::full, where + ": no space left (" + format_size(free_bytes()) +
                                     " free on its disk); make room there, or run `loam store gc`");
  return fail_errno(where, error_number);
}

}  // namespace loam::store
