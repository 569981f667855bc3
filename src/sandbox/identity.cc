#include "sandbox/identity.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/files.h"
#include "base/packet.h"
#include "base/text.h"

namespace loam::sandbox {
namespace {

constexpr int kCapabilityMax = 63;

Result<void> set_groups(const Ids& ids) {
  std::vector<gid_t> groups(ids.groups.begin(), ids.groups.end());
  if (::setgroups(groups.size(), groups.data()) == 0) return {};
  const int number = errno;
  // A namespace made without newgidmap may not change groups at all (user_namespaces(7)); they are
  // the user's own.
  const auto allowed = read_file("/proc/self/setgroups");
  if (allowed && trim(*allowed) == "deny") return {};
  return fail_errno("setgroups", number);
}

Result<void> clear_capabilities() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
  if (::syscall(SYS_capset, &header, data.data()) != 0) return fail_errno("capset");
  return {};
}

// One packet per path: an errno (0: the descriptor comes with it).
bool send_descriptor(int socket_fd, int number, int fd) {
  const std::string_view bytes(reinterpret_cast<const char*>(&number), sizeof number);
  return send_packet(socket_fd, bytes, std::span<const int>(&fd, fd >= 0 ? 1 : 0)) == sizeof number;
}

Result<Fd> receive_descriptor(int socket_fd, const std::string& path) {
  int number = EIO;
  ReceivedPacket packet =
      receive_packet(socket_fd, std::span(reinterpret_cast<char*>(&number), sizeof number));
  if (packet.size_bytes != sizeof number)
    return fail(ErrorCode::io, path + ": the opener ended early");
  if (number != 0) return fail_errno(path, number);
  if (packet.descriptors.size() != 1) return fail(ErrorCode::io, path + ": no descriptor");
  return std::move(packet.descriptors.front());
}

int open_path(const UserPath& path) {
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_NO_MAGICLINKS;
  const int fd =
      static_cast<int>(::syscall(SYS_openat2, AT_FDCWD, path.path.c_str(), &how, sizeof how));
  if (fd < 0) return -errno;
  struct stat status {};
  if (::fstat(fd, &status) != 0) return -errno;
  // A device, a socket or a pipe is no place for data, and opening one can have effects.
  if (!S_ISDIR(status.st_mode) && !S_ISREG(status.st_mode)) return -EINVAL;
  return fd;
}

[[noreturn]] void run_opener(const Ids& ids, const std::vector<UserPath>& paths, int socket_fd) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (!become_user(ids)) ::_exit(1);
  for (const UserPath& path : paths) {
    const int fd = open_path(path);
    if (!send_descriptor(socket_fd, fd < 0 ? -fd : 0, fd)) ::_exit(1);
    if (fd >= 0) ::close(fd);
  }
  ::_exit(0);
}

Result<std::vector<Fd>> collect(int socket_fd, const std::vector<UserPath>& paths) {
  std::vector<Fd> opened;
  for (const UserPath& path : paths)
    opened.push_back(LOAM_TRY(receive_descriptor(socket_fd, path.path)));
  return opened;
}

}  // namespace

Result<void> become_user(const Ids& ids) {
  LOAM_CHECK(set_groups(ids));
  if (::setresgid(ids.gid, ids.gid, ids.gid) != 0) return fail_errno("setresgid");
  if (::setresuid(ids.uid, ids.uid, ids.uid) != 0) return fail_errno("setresuid");
  return {};
}

Result<void> drop_to_user(const Ids& ids) {
  // While CAP_SETPCAP is still there. A number above the kernel's last capability is EINVAL and
  // ends the list.
  for (int capability = 0; capability <= kCapabilityMax; ++capability)
    if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) {
      if (errno == EINVAL) break;
      return fail_errno("drop the bounding set");
    }
  if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
    return fail_errno("drop the ambient set");
  LOAM_CHECK(become_user(ids));
  return clear_capabilities();
}

Result<std::vector<Fd>> open_as_user(const Ids& ids, const std::vector<UserPath>& paths) {
  if (paths.empty()) return std::vector<Fd>{};
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return fail_errno("socketpair");
  const Fd ours(ends[0]);
  Fd theirs(ends[1]);
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno("fork");
  if (pid == 0) run_opener(ids, paths, theirs.get());
  theirs.reset();
  auto opened = collect(ours.get(), paths);
  if (!opened) ::kill(pid, SIGKILL);
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return opened;
}

}  // namespace loam::sandbox
