#include "sandbox/root.h"

#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/files.h"

namespace loam::sandbox {
namespace {

constexpr std::array<std::string_view, 6> kMadeEntries{"proc", "sys", "dev",
                                                       "tmp",  "run", "lost+found"};

Result<void> make_file(const std::string& path) {
  const Fd made = LOAM_TRY(open_file(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644));
  return {};
}

Result<void> copy_symlink(const std::string& from, const std::string& to) {
  std::array<char, PATH_MAX> target{};
  const ssize_t length = ::readlink(from.c_str(), target.data(), target.size() - 1);
  if (length < 0) return fail_errno("readlink " + from);
  if (::symlink(target.data(), to.c_str()) != 0) return fail_errno("symlink " + to);
  return {};
}

Result<void> bind_entry(const std::string& from, const std::string& to, bool folder) {
  const Fd tree = LOAM_TRY(clone_tree(AT_FDCWD, from, {.read_only = true}));
  if (folder) {
    if (::mkdir(to.c_str(), 0755) != 0) return fail_errno("mkdir " + to);
  } else {
    LOAM_CHECK(make_file(to));
  }
  return attach(tree.get(), to);
}

struct Device {
  const char* name;
  unsigned major_number;
  unsigned minor_number;
};
constexpr std::array<Device, 6> kDevices{{{"null", 1, 3},
                                          {"zero", 1, 5},
                                          {"full", 1, 7},
                                          {"random", 1, 8},
                                          {"urandom", 1, 9},
                                          {"tty", 5, 0}}};

Result<void> make_device(const std::string& path, const Device& device) {
  if (::mknod(path.c_str(), S_IFCHR | 0666, makedev(device.major_number, device.minor_number)) ==
      0) {
    if (::chmod(path.c_str(), 0666) != 0) return fail_errno("chmod " + path);
    // A filesystem of another user namespace makes nodes that no one may open: then the host's is
    // bound.
    if (const Fd usable(::open(path.c_str(), O_RDONLY | O_NOCTTY | O_CLOEXEC));
        usable || errno == ENXIO)
      return {};
    (void)::unlink(path.c_str());
  }
  LOAM_CHECK(make_file(path));
  const Fd tree =
      LOAM_TRY(clone_tree(AT_FDCWD, std::string("/dev/") + device.name, {.devices = true}));
  return attach(tree.get(), path);
}

}  // namespace

const std::vector<std::string> kMaskedPaths{
    "/proc/acpi",       "/proc/asound",        "/proc/interrupts",  "/proc/kcore",
    "/proc/keys",       "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
    "/proc/timer_list", "/proc/timer_stats",   "/sys/firmware",     "/sys/devices/virtual/powercap",
};
const std::vector<std::string> kReadOnlyPaths{
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

Result<void> fill_host_root(const std::string& folder) {
  for (const std::string& name : LOAM_TRY(list_folder("/"))) {
    const std::string from = "/" + name;
    const std::string to = folder + from;
    if (std::find(kMadeEntries.begin(), kMadeEntries.end(), name) != kMadeEntries.end()) continue;
    struct stat status {};
    if (::lstat(from.c_str(), &status) != 0) return fail_errno(from);
    if (S_ISLNK(status.st_mode)) LOAM_CHECK(copy_symlink(from, to));
    if (S_ISDIR(status.st_mode) || S_ISREG(status.st_mode))
      LOAM_CHECK(bind_entry(from, to, S_ISDIR(status.st_mode)));
  }
  return {};
}

Result<void> fill_dev(const std::string& folder) {
  for (const Device& device : kDevices) LOAM_CHECK(make_device(folder + "/" + device.name, device));
  constexpr std::array<std::pair<const char*, const char*>, 5> kLinks{
      {{"/fd", "/proc/self/fd"},
       {"/stdin", "/proc/self/fd/0"},
       {"/stdout", "/proc/self/fd/1"},
       {"/stderr", "/proc/self/fd/2"},
       {"/ptmx", "pts/ptmx"}}};
  for (const auto& [name, target] : kLinks)
    if (::symlink(target, (folder + name).c_str()) != 0)
      return fail_errno(std::string("symlink /dev") + name);
  for (const char* name : {"/pts", "/shm"})
    if (::mkdir((folder + name).c_str(), 0755) != 0)
      return fail_errno(std::string("mkdir /dev") + name);
  return {};
}

Result<void> mask(int root, const std::string& path, const std::string& empty_folder,
                  const std::string& empty_file) {
  const auto target = open_in_root(root, path);
  if (!target) {
    if (target.error().code == ErrorCode::not_found) return {};
    return in_context("hide", target.error());
  }
  const TargetKind kind = LOAM_TRY(kind_of(target->get()));
  const Fd cover = LOAM_TRY(clone_tree(
      AT_FDCWD, kind == TargetKind::folder ? empty_folder : empty_file, {.read_only = true}));
  if (auto attached = attach(cover.get(), target->get()); !attached)
    return in_context("hide " + path, attached.error());
  return {};
}

Result<void> bring_loopback_up() {
  const Fd socket_fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket_fd) return fail_errno("socket");
  ifreq request{};
  ::strncpy(request.ifr_name, "lo", sizeof request.ifr_name - 1);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (::ioctl(socket_fd.get(), SIOCSIFFLAGS, &request) != 0) return fail_errno("bring up lo");
  return {};
}

}  // namespace loam::sandbox
