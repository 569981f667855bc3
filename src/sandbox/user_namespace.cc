#include "sandbox/user_namespace.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <limits>

#include "base/files.h"
#include "base/text.h"

namespace loam::sandbox {
namespace {

constexpr std::uint32_t kIdMax = std::numeric_limits<std::uint32_t>::max();  // itself no id

Result<void> write_map(const std::string& path, const std::vector<IdMapLine>& lines) {
  std::string text;
  for (const IdMapLine& line : lines)
    text += std::to_string(line.inside) + " " + std::to_string(line.outside) + " " +
            std::to_string(line.count) + "\n";
  const Fd fd = LOAM_TRY(open_file(path, O_WRONLY));
  if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return fail_errno("write " + path);
  return {};
}

// The child only holds the namespace open; fork and not clone3, so that threads of the caller do no
// harm.
pid_t fork_into_namespace(const Pipe& ready) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const char mark = ::unshare(CLONE_NEWUSER) == 0 ? '1' : static_cast<char>(errno);
  (void)!::write(ready.write_end.get(), &mark, 1);
  for (;;) ::pause();
}

Result<Fd> take_namespace(pid_t pid, Pipe& ready, const std::vector<IdMapLine>& uids,
                          const std::vector<IdMapLine>& gids) {
  char mark = 0;
  ready.write_end.reset();
  const auto got =
      LOAM_TRY(read_full(ready.read_end.get(), std::as_writable_bytes(std::span(&mark, 1))));
  if (got != 1 || mark != '1') return fail_errno("make a user namespace", got == 1 ? mark : EIO);
  const std::string folder = "/proc/" + std::to_string(pid);
  LOAM_CHECK(write_map(folder + "/uid_map", uids));
  LOAM_CHECK(write_map(folder + "/gid_map", gids));
  return open_file(folder + "/ns/user", O_RDONLY);
}

}  // namespace

Result<Fd> make_user_namespace(const std::vector<IdMapLine>& uids,
                               const std::vector<IdMapLine>& gids) {
  Pipe ready = LOAM_TRY(make_pipe());
  const pid_t pid = fork_into_namespace(ready);
  if (pid < 0) return fail_errno("fork");
  auto made = take_namespace(pid, ready, uids, gids);
  ::kill(pid, SIGKILL);
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return made;
}

std::vector<IdMapLine> swapped_with_root(std::uint32_t id) {
  LOAM_ASSERT(id != 0 && id != kIdMax);
  std::vector<IdMapLine> lines{{0, id, 1}, {id, 0, 1}};
  if (id > 1) lines.push_back({1, 1, id - 1});
  if (id + 1 < kIdMax) lines.push_back({id + 1, id + 1, kIdMax - id - 1});
  return lines;
}

bool in_initial_user_namespace() {
  const auto text = read_file("/proc/self/uid_map");
  if (!text) return false;
  std::string plain;
  for (const char c : *text)
    if (c != ' ' || (!plain.empty() && plain.back() != ' ')) plain.push_back(c);
  return trim(plain) == "0 0 4294967295";
}

}  // namespace loam::sandbox
