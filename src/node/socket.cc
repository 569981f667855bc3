#include "node/socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "base/files.h"

namespace loam::node {
namespace {

constexpr int kBacklog = 512;

// By the folder's descriptor: an address holds 107 bytes, a runtime folder's path may be longer.
sockaddr_un address_in(const Fd& folder) {
  const std::string path = "/proc/self/fd/" + std::to_string(folder.get()) + "/node.sock";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

Result<bool> somebody_listens(const sockaddr_un& address) {
  const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!probe) return fail_errno("socket");
  return ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

}  // namespace

bool node_listens(const Paths& paths) {
  const auto folder = open_file(paths.runtime, O_PATH | O_DIRECTORY);
  if (!folder) return false;
  return somebody_listens(address_in(*folder)).value_or(false);
}

Result<Fd> listen_at(const Paths& paths, const Identity& identity) {
  const Fd folder = LOAM_TRY(open_file(paths.runtime, O_PATH | O_DIRECTORY));
  const sockaddr_un address = address_in(folder);
  const auto* where = reinterpret_cast<const sockaddr*>(&address);
  if (LOAM_TRY(somebody_listens(address)))
    return fail(ErrorCode::busy,
                paths.socket + ": another node (with another state folder) listens here");
  if (::unlinkat(folder.get(), "node.sock", 0) != 0 && errno != ENOENT)
    return fail_errno(paths.socket);

  Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return fail_errno("socket");
  // Nobody's while it gets its owner and mode: the first connect() finds both right.
  const mode_t old = ::umask(0777);
  const int bound = ::bind(listener.get(), where, sizeof address);
  ::umask(old);
  if (bound != 0) return fail_errno(paths.socket);
  if (identity.rootless && ::fchownat(folder.get(), "node.sock", identity.owner_uid,
                                      identity.owner_gid, AT_SYMLINK_NOFOLLOW) != 0)
    return fail_errno(paths.socket);
  if (::fchmodat(folder.get(), "node.sock", identity.rootless ? 0600 : 0666, 0) != 0)
    return fail_errno(paths.socket);
  if (::listen(listener.get(), kBacklog) != 0) return fail_errno(paths.socket);
  return listener;
}

}  // namespace loam::node
