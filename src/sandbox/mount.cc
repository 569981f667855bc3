#include "sandbox/mount.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/text.h"

// <sys/mount.h> and <linux/mount.h> do not go together before glibc 2.37; these two are all that is
// needed of it.
extern "C" {
int mount(const char* source, const char* target, const char* type, unsigned long flags,
          const void* data);
int umount2(const char* target, int flags);
}

namespace loam::sandbox {
namespace {

constexpr unsigned long kMsRecursive = 16384;   // MS_REC
constexpr unsigned long kMsPrivate = 1u << 18;  // MS_PRIVATE
constexpr int kLinksMax = 8;
constexpr int kDetach = 2;  // MNT_DETACH

int open_at(int folder, const char* path, std::uint64_t flags, mode_t mode = 0) {
  open_how how{};
  how.flags = flags | O_CLOEXEC;
  how.mode = mode;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  return static_cast<int>(::syscall(SYS_openat2, folder, path, &how, sizeof how));
}

std::uint64_t attributes(const MountOptions& options) {
  std::uint64_t set = MOUNT_ATTR_NOSUID;
  if (!options.devices) set |= MOUNT_ATTR_NODEV;
  if (options.read_only) set |= MOUNT_ATTR_RDONLY;
  return set;
}

Result<void> set_attributes(int mount_fd, const MountOptions& options) {
  mount_attr attr{};
  attr.attr_set = attributes(options);
  // A copy of a shared mount (systemd shares all of them) is its peer: what is mounted below it in the
  // sandbox would be mounted on the host too, and stay there.
  attr.propagation = kMsPrivate;
  if (options.user_namespace >= 0) {
    attr.attr_set |= MOUNT_ATTR_IDMAP;
    attr.userns_fd = static_cast<std::uint64_t>(options.user_namespace);
  }
  const unsigned flags = AT_EMPTY_PATH | (options.recursive ? AT_RECURSIVE : 0);
  if (::syscall(SYS_mount_setattr, mount_fd, "", flags, &attr, sizeof attr) != 0)
    return fail_errno("mount_setattr");
  return {};
}

Result<Fd> open_tree(int folder_fd, const std::string& path, bool recursive) {
  const unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_NO_AUTOMOUNT |
                         (recursive ? AT_RECURSIVE : 0);
  Fd tree(static_cast<int>(::syscall(SYS_open_tree, folder_fd, path.c_str(), flags)));
  if (!tree) return fail_errno("open_tree " + path);
  return tree;
}

Result<void> configure(int filesystem, const Parameters& parameters) {
  for (const auto& [key, value] : parameters) {
    const bool flag = value.empty();
    const auto command = flag ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING;
    if (::syscall(SYS_fsconfig, filesystem, command, key.c_str(), flag ? nullptr : value.c_str(),
                  0) != 0)
      return fail_errno("mount option " + key);
  }
  if (::syscall(SYS_fsconfig, filesystem, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    const int number = errno;
    // The filesystem's own words, where it has some (one "e text" line per read).
    char words[256];
    const ssize_t length = ::read(filesystem, words, sizeof words);
    return fail_errno(length > 2 ? std::string(words, static_cast<std::size_t>(length)) : "mount",
                      number);
  }
  return {};
}

Result<void> make_folders_in_root(int root, const std::string& path) {
  std::string prefix;
  for (const std::string& name : split(path, '/')) {
    if (name.empty() || name == ".") continue;
    if (name == "..") return fail(ErrorCode::invalid, path + ": '..' in the path of a mount");
    const std::string parent = prefix.empty() ? "/" : prefix;
    prefix += "/" + name;
    if (const Fd existing(open_at(root, prefix.c_str(), O_PATH | O_DIRECTORY)); existing) continue;
    if (errno != ENOENT) return fail_errno(prefix);
    const Fd folder(open_at(root, parent.c_str(), O_PATH | O_DIRECTORY));
    if (!folder) return fail_errno(parent);
    if (::mkdirat(folder.get(), name.c_str(), 0755) != 0) return fail_errno("mkdir " + prefix);
  }
  return {};
}

std::string parent_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos || slash == 0 ? "/" : path.substr(0, slash);
}

// The usual case: the folder around it is there, and it is none of the tree's links.
bool make_folder_in_root(int root, const std::string& path) {
  const Fd parent(open_at(root, parent_of(path).c_str(), O_PATH | O_DIRECTORY));
  const std::string name = path.substr(path.rfind('/') + 1);
  return parent && !name.empty() && name != "." && name != ".." &&
         ::mkdirat(parent.get(), name.c_str(), 0755) == 0;
}

// Where a link to nothing points (resolv.conf into an empty /run), as a path below root without
// "..".
Result<std::string> follow_dangling(int root, const std::string& path) {
  std::string place = path;
  for (int links = 0; links < kLinksMax; ++links) {
    const Fd link(open_at(root, place.c_str(), O_PATH | O_NOFOLLOW));
    char target[PATH_MAX];
    const ssize_t length = link ? ::readlinkat(link.get(), "", target, sizeof target) : -1;
    if (length <= 0) return place;
    const std::string_view text(target, static_cast<std::size_t>(length));
    std::vector<std::string> names;
    const std::string joined =
        text[0] == '/' ? std::string(text) : parent_of(place) + "/" + std::string(text);
    for (std::string& name : split(joined, '/')) {
      if (name == ".." && !names.empty()) names.pop_back();
      if (!name.empty() && name != "." && name != "..") names.push_back(std::move(name));
    }
    place = "/" + join(names, "/");
  }
  return fail(ErrorCode::invalid, path + ": too many links");
}

}  // namespace

Result<Fd> clone_tree(int folder_fd, const std::string& path, const MountOptions& options) {
  Fd tree = LOAM_TRY(open_tree(folder_fd, path, options.recursive));
  LOAM_CHECK(set_attributes(tree.get(), options));
  return tree;
}

Result<Fd> copy_tree(int folder_fd, const std::string& path) {
  return open_tree(folder_fd, path, true);
}

Result<void> make_read_only_below(const std::string& path) {
  mount_attr all{};
  all.attr_set = attributes({.read_only = true});
  mount_attr own{};
  own.attr_clr = MOUNT_ATTR_RDONLY;
  if (::syscall(SYS_mount_setattr, AT_FDCWD, path.c_str(), AT_RECURSIVE, &all, sizeof all) != 0 ||
      ::syscall(SYS_mount_setattr, AT_FDCWD, path.c_str(), 0, &own, sizeof own) != 0)
    return fail_errno("mount_setattr " + path);
  return {};
}

Result<Fd> new_filesystem(const char* type, const Parameters& parameters,
                          const MountOptions& options) {
  const Fd filesystem(static_cast<int>(::syscall(SYS_fsopen, type, FSOPEN_CLOEXEC)));
  if (!filesystem) return fail_errno(std::string("fsopen ") + type);
  if (auto configured = configure(filesystem.get(), parameters); !configured)
    return in_context(type, configured.error());
  Fd mounted(static_cast<int>(::syscall(SYS_fsmount, filesystem.get(), FSMOUNT_CLOEXEC,
                                        static_cast<unsigned>(attributes(options)))));
  if (!mounted) return fail_errno(std::string("fsmount ") + type);
  return mounted;
}

Result<Fd> new_tmpfs(std::uint64_t size_bytes, mode_t mode, const MountOptions& options) {
  char digits[8];
  std::size_t at = sizeof digits;
  digits[--at] = '\0';
  for (unsigned rest = mode; rest != 0 && at > 0; rest /= 8)
    digits[--at] = static_cast<char>('0' + rest % 8);
  Parameters parameters{{"mode", std::string(digits + at)}};
  if (size_bytes > 0) parameters.emplace_back("size", std::to_string(size_bytes));
  return new_filesystem("tmpfs", parameters, options);
}

Result<void> attach(int mount, int target) {
  if (::syscall(SYS_move_mount, mount, "", target, "",
                MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0)
    return fail_errno("move_mount");
  return {};
}

Result<void> attach(int mount, const std::string& path) {
  if (::syscall(SYS_move_mount, mount, "", AT_FDCWD, path.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0)
    return fail_errno("move_mount to " + path);
  return {};
}

Result<void> make_private() {
  if (::mount(nullptr, "/", nullptr, kMsRecursive | kMsPrivate, nullptr) != 0)
    return fail_errno("make mounts private");
  return {};
}

Result<void> change_root(const std::string& new_root) {
  if (::chdir(new_root.c_str()) != 0) return fail_errno("chdir to the new root");
  // Both arguments ".": the old root is stacked on the new one and then taken off (pivot_root(2),
  // NOTES).
  if (::syscall(SYS_pivot_root, ".", ".") != 0) return fail_errno("pivot_root");
  if (::umount2(".", kDetach) != 0) return fail_errno("umount of the old root");
  if (::chdir("/") != 0) return fail_errno("chdir /");
  return {};
}

Result<Fd> open_in_root(int root, const std::string& path) {
  Fd fd(open_at(root, path.c_str(), O_PATH));
  if (!fd) return fail_errno(path);
  return fd;
}

Result<TargetKind> kind_of(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return fail_errno("fstat");
  return S_ISDIR(status.st_mode) ? TargetKind::folder : TargetKind::file;
}

Result<Fd> find_in_root(int root, const std::string& path, TargetKind kind) {
  Fd existing = LOAM_TRY(open_in_root(root, path));
  if (const TargetKind found = LOAM_TRY(kind_of(existing.get())); found != kind)
    return fail(
        ErrorCode::invalid,
        path + (found == TargetKind::file ? ": is a file, and a folder is to be mounted there"
                                          : ": is a folder, and a file is to be mounted there"));
  return existing;
}

Result<Fd> make_in_root(int root, const std::string& path, TargetKind kind) {
  auto existing = find_in_root(root, path, kind);
  if (existing || existing.error().code != ErrorCode::not_found) return existing;
  if (kind != TargetKind::folder || !make_folder_in_root(root, path)) {
    const std::string place = LOAM_TRY(follow_dangling(root, path));
    LOAM_CHECK(make_folders_in_root(root, kind == TargetKind::folder ? place : parent_of(place)));
    if (kind == TargetKind::file)
      if (const Fd made(open_at(root, place.c_str(), O_CREAT | O_WRONLY, 0644)); !made)
        return fail_errno("make " + path);
  }
  return find_in_root(root, path, kind);
}

}  // namespace loam::sandbox
