#include "sandbox/user_namespace.h"

#include <fcntl.h>
#include <linux/sched.h>
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
  // Without the process's number: the text is a finding of the host's record, which is to be one
  // record.
  if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return fail_errno("write " + path.substr(path.rfind('/') + 1));
  return {};
}

// The child only holds the namespace open. It is born in it, so that nobody waits for it to run.
Result<pid_t> clone_into_namespace() {
  clone_args arguments{};
  arguments.flags = CLONE_NEWUSER;
  arguments.exit_signal = SIGCHLD;
  const long pid = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) return fail_errno("make a user namespace");
  if (pid > 0) return static_cast<pid_t>(pid);
  // System calls only: a thread of the caller may have held any lock.
  ::syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  for (;;) ::pause();
}

Result<Fd> take_namespace(pid_t pid, const std::vector<IdMapLine>& uids,
                          const std::vector<IdMapLine>& gids) {
  const std::string folder = "/proc/" + std::to_string(pid);
  LOAM_CHECK(write_map(folder + "/uid_map", uids));
  LOAM_CHECK(write_map(folder + "/gid_map", gids));
  return open_file(folder + "/ns/user", O_RDONLY);
}

}  // namespace

Result<Fd> make_user_namespace(const std::vector<IdMapLine>& uids,
                               const std::vector<IdMapLine>& gids) {
  const pid_t pid = LOAM_TRY(clone_into_namespace());
  auto made = take_namespace(pid, uids, gids);
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
