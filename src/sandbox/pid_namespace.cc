// The fence where there is no cgroup: every process of a sandbox carries its pid namespace's inode.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "base/clock.h"
#include "base/files.h"
#include "sandbox/cgroup.h"

namespace loam::sandbox {
namespace {

// A zombie waits for its parent alone. One with other threads is a process whose first thread has
// ended.
bool is_zombie(const std::string& pid) {
  const auto text = read_file("/proc/" + pid + "/stat");
  if (!text) return true;
  const auto name_end = text->rfind(')');
  if (name_end == std::string::npos || name_end + 2 >= text->size() || (*text)[name_end + 2] != 'Z')
    return false;
  const auto threads = list_folder("/proc/" + pid + "/task");
  return !threads || threads->size() <= 1;
}

std::vector<pid_t> members(std::uint64_t inode) {
  std::vector<pid_t> found;
  const auto names = list_folder("/proc");
  if (!names) return found;
  for (const std::string& name : *names) {
    if (name.empty() ||
        !std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; }))
      continue;
    struct stat status {};
    const std::string path = "/proc/" + name + "/ns/pid";
    if (::stat(path.c_str(), &status) == 0 && status.st_ino == inode && !is_zombie(name))
      found.push_back(static_cast<pid_t>(std::stol(name)));
  }
  return found;
}

// A pid read from a listing may have become another process: the pidfd is checked again before the
// kill.
void kill_member(pid_t pid, std::uint64_t inode) {
  const Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) return;
  struct stat status {};
  const std::string path = "/proc/" + std::to_string(pid) + "/ns/pid";
  if (::stat(path.c_str(), &status) == 0 && status.st_ino == inode)
    (void)::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
}

}  // namespace

bool pid_namespace_populated(std::uint64_t inode) { return !members(inode).empty(); }

Result<void> kill_pid_namespace(std::uint64_t inode, std::int64_t limit_ms) {
  const std::int64_t until = steady_ns() + limit_ms * 1'000'000;
  for (;;) {
    const auto pids = members(inode);
    if (pids.empty()) return {};
    for (const pid_t pid : pids) kill_member(pid, inode);
    if (steady_ns() >= until) break;
    const timespec pause{.tv_sec = 0, .tv_nsec = 2'000'000};
    ::nanosleep(&pause, nullptr);
  }
  return fail(ErrorCode::busy, "processes of the pid namespace are still there after " +
                                   std::to_string(limit_ms) + " ms of SIGKILL");
}

}  // namespace loam::sandbox
