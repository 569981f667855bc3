#include "node/attempt_fence.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "base/files.h"
#include "base/text.h"
#include "sandbox/pid_namespace.h"

namespace loam::node {
namespace {

constexpr std::int64_t kFenceLimitMs = 10'000;
constexpr int kLockPauseMs = 2;   // a dying process lets go within a few of these
constexpr int kShimLookMs = 250;  // between looks at the lock while a shim's socket is awaited
constexpr std::size_t kShimLogBytesMax = 1 << 20;

// The attempt's pid namespace, which the shim names in its folder where it has no cgroup.
sandbox::PidNamespace pid_namespace_in(const std::string& folder) {
  return sandbox::pid_namespace_from(read_file(folder + "/pid_namespace", 64).value_or(""));
}

// By the folder's descriptor: a socket's address holds 107 bytes, a state folder's path may be
// longer.
Result<Fd> connect_once(const std::string& folder) {
  const Fd place = LOAM_TRY(open_file(folder, O_PATH | O_DIRECTORY));
  Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno("socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = "/proc/self/fd/" + std::to_string(place.get()) + "/shim.sock";
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail_errno(folder + "/shim.sock");
  return socket;
}

}  // namespace

Result<Fd> take_lock(const std::string& folder, bool create) {
  Fd lock = LOAM_TRY(
      open_file(folder + "/lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0600));
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (::fcntl(lock.get(), F_OFD_SETLK, &whole) != 0) {
    if (errno == EAGAIN || errno == EACCES) return fail(ErrorCode::busy, folder + "/lock: held");
    return fail_errno(folder + "/lock");
  }
  return lock;
}

Result<Fd> await_lock(const std::string& folder, std::int64_t limit_ms) {
  const std::int64_t end_ns = steady_ns() + limit_ms * 1'000'000;
  for (;;) {
    auto lock = take_lock(folder, false);
    if (lock || lock.error().code != ErrorCode::busy || steady_ns() >= end_ns) return lock;
    const timespec pause{0, kLockPauseMs * 1'000'000};
    ::nanosleep(&pause, nullptr);
  }
}

std::optional<api::ExitRecord> read_exit_record(const std::string& folder,
                                                const std::string& attempt) {
  const auto text = read_file(folder + "/exit.json", 1 << 20);
  if (!text) return std::nullopt;
  const auto document = Json::parse(*text);
  if (!document) return std::nullopt;
  auto record = api::exit_record_from(*document);
  if (!record || record->attempt != attempt) return std::nullopt;
  return std::move(*record);
}

bool fence(const std::string& folder, const sandbox::CgroupPaths& cgroup) {
  if (cgroup.any() && !sandbox::kill_cgroup(cgroup, kFenceLimitMs)) return false;
  return sandbox::kill_pid_namespace(pid_namespace_in(folder), kFenceLimitMs).has_value();
}

Result<Fd> connect_to_shim(const std::string& folder, std::int64_t limit_ms) {
  // A shim that lives listens already, and no watch is worth its price: to close one waits for
  // readers all over the kernel (SRCU), 3 to 8 ms.
  if (auto socket = connect_once(folder)) return socket;
  // Watched before the next try: a socket that appears in between is not missed.
  const Fd events(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (events)
    (void)::inotify_add_watch(events.get(), folder.c_str(), IN_CREATE | IN_MOVED_TO | IN_ATTRIB);
  const std::int64_t end_ns = steady_ns() + limit_ms * 1'000'000;
  for (;;) {
    if (auto socket = connect_once(folder)) return socket;
    if (const auto lock = take_lock(folder, false); lock || lock.error().code != ErrorCode::busy)
      return fail(ErrorCode::unavailable, "the shim has ended");
    if (steady_ns() >= end_ns) return fail(ErrorCode::unavailable, "the shim does not listen");
    pollfd ready{events.get(), POLLIN, 0};
    (void)::poll(&ready, 1, kShimLookMs);
    char drained[4096];
    while (events && ::read(events.get(), drained, sizeof drained) > 0) {
    }
  }
}

std::string last_words(const std::string& folder) {
  const auto text = read_file(folder + "/shim.log", kShimLogBytesMax);
  if (!text) return "";
  const std::string_view whole = trim(*text);
  return printable(whole.substr(whole.rfind('\n') + 1));  // npos + 1 is 0
}

}  // namespace loam::node
