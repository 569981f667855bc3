#include "sandbox/root.h"

#include <dirent.h>
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
#include <memory>

#include "base/files.h"

namespace loam::sandbox {
namespace {

constexpr std::array<std::string_view, 5> kMadeEntries{"proc", "sys", "dev", "tmp", "run"};

Result<void> make_file(const std::string& path) {
  if (::mknod(path.c_str(), S_IFREG | 0644, 0) != 0) return fail_errno("make " + path);
  return {};
}

Result<void> make_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0755) != 0) return fail_errno("mkdir " + path);
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
  const Fd tree = LOAM_TRY(copy_tree(AT_FDCWD, from));
  LOAM_CHECK(folder ? make_folder(to) : make_file(to));
  return attach(tree.get(), to);
}

struct Entry {
  std::string name;
  unsigned char type;  // DT_…
};

Result<std::vector<Entry>> top_entries() {
  const std::unique_ptr<DIR, int (*)(DIR*)> top(::opendir("/"), ::closedir);
  if (!top) return fail_errno("/");
  std::vector<Entry> entries;
  while (const dirent* found = ::readdir(top.get())) {
    Entry entry{found->d_name, found->d_type};
    if (entry.name == "." || entry.name == ".." || entry.name == "lost+found") continue;
    struct stat status {};
    if (entry.type == DT_UNKNOWN) {  // a filesystem that does not tell
      if (::lstat(("/" + entry.name).c_str(), &status) != 0) return fail_errno("/" + entry.name);
      entry.type = static_cast<unsigned char>(IFTODT(status.st_mode));
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

constexpr std::string_view kDev = "/dev/";
const std::array<DeviceNode, 6> kHarmless{{{"/dev/null", false, 1, 3},
                                           {"/dev/zero", false, 1, 5},
                                           {"/dev/full", false, 1, 7},
                                           {"/dev/random", false, 1, 8},
                                           {"/dev/urandom", false, 1, 9},
                                           {"/dev/tty", false, 5, 0}}};

// "/dev/dri/card0" in FOLDER: FOLDER/dri/card0.
std::string place_in(const std::string& folder, const DeviceNode& device) {
  return folder + "/" + device.path.substr(kDev.size());
}

Result<void> make_node(const std::string& folder, const DeviceNode& device, mode_t mode) {
  const std::string path = place_in(folder, device);
  const dev_t number = makedev(device.major_number, device.minor_number);
  if (::mknod(path.c_str(), (device.block ? S_IFBLK : S_IFCHR) | mode, number) != 0)
    return fail_errno("mknod " + path);
  return {};
}

// A filesystem of another user namespace makes nodes that no one may open: then the host's are
// bound.
bool makes_usable_nodes(const std::string& folder) {
  const std::string path = place_in(folder, kHarmless[0]);
  if (!make_node(folder, kHarmless[0], 0666)) return false;
  const Fd usable(::open(path.c_str(), O_RDONLY | O_NOCTTY | O_CLOEXEC));
  if (!usable) (void)::unlink(path.c_str());
  return usable.valid();
}

// How fill_dev() did it.
bool has_own_nodes(const std::string& folder) {
  struct stat top {};
  struct stat null {};
  return ::stat(folder.c_str(), &top) == 0 &&
         ::stat(place_in(folder, kHarmless[0]).c_str(), &null) == 0 && top.st_dev == null.st_dev;
}

Result<void> bind_device(const std::string& folder, const DeviceNode& device) {
  const auto found = LOAM_TRY(device_node_at(device.path));
  if (!(found == device))
    return fail(ErrorCode::unavailable, device.path + " is another device than it was");
  const std::string path = place_in(folder, device);
  LOAM_CHECK(make_file(path));
  const Fd tree = LOAM_TRY(clone_tree(AT_FDCWD, device.path, {.devices = true}));
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
  for (const std::string_view name : kMadeEntries)
    LOAM_CHECK(make_folder(folder + "/" + std::string(name)));
  for (const Entry& entry : LOAM_TRY(top_entries())) {
    const std::string from = "/" + entry.name;
    const std::string to = folder + from;
    if (std::find(kMadeEntries.begin(), kMadeEntries.end(), entry.name) != kMadeEntries.end())
      continue;
    if (entry.type == DT_LNK) LOAM_CHECK(copy_symlink(from, to));
    if (entry.type == DT_DIR || entry.type == DT_REG)
      LOAM_CHECK(bind_entry(from, to, entry.type == DT_DIR));
  }
  return make_read_only_below(folder);  // all at once, and nothing of it is in a job's sight yet
}

Result<void> add_devices(const std::string& folder, const std::vector<DeviceNode>& devices) {
  if (devices.empty()) return {};
  const mode_t before = ::umask(0);  // 0666 is meant
  const bool own_nodes = has_own_nodes(folder);
  for (const DeviceNode& device : devices) {
    LOAM_ASSERT(device.path.starts_with(kDev));
    const std::string path = place_in(folder, device);
    LOAM_CHECK(make_folders(path.substr(0, path.rfind('/')), 0755));
    if (!own_nodes) {
      LOAM_CHECK(bind_device(folder, device));
      continue;
    }
    // As drivers make them: some look at a node's owner and mode before they use it. Nobody but the
    // job's own processes sees it.
    LOAM_CHECK(make_node(folder, device, 0666));
  }
  ::umask(before);
  return {};
}

Result<void> fill_dev(const std::string& folder) {
  const mode_t before = ::umask(0);  // 0666 is meant
  const bool own_nodes = makes_usable_nodes(folder);
  for (const DeviceNode& device : kHarmless) {
    if (!own_nodes) LOAM_CHECK(bind_device(folder, device));
    if (own_nodes && &device != &kHarmless[0]) LOAM_CHECK(make_node(folder, device, 0666));
  }
  ::umask(before);
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
