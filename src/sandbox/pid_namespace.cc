#include "sandbox/pid_namespace.h"

#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <charconv>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/files.h"
#include "base/text.h"

namespace loam::sandbox {
namespace {

constexpr std::size_t kStartField = 19;  // of those behind the name, from 0; proc_pid_stat(5) counts 22

struct Stat {
  char state = 'X';
  std::uint64_t started = 0;
};

// Gone: state X. The name may hold spaces and brackets: the fields begin behind its last one.
Stat stat_of(pid_t pid) {
  const auto text = read_file("/proc/" + std::to_string(pid) + "/stat");
  if (!text) return {};
  const auto name_end = text->rfind(')');
  if (name_end == std::string::npos || name_end + 2 >= text->size()) return {};
  const std::vector<std::string> fields = split(text->substr(name_end + 2), ' ');
  if (fields.size() <= kStartField || fields[0].size() != 1) return {};
  Stat stat{.state = fields[0][0]};
  const std::string& started = fields[kStartField];
  std::from_chars(started.data(), started.data() + started.size(), stat.started);
  return stat;
}

}  // namespace

PidNamespace pid_namespace_of(pid_t init) {
  const Stat stat = stat_of(init);
  return stat.started == 0 ? PidNamespace{} : PidNamespace{init, stat.started};
}

std::string to_text(const PidNamespace& pids) {
  return std::to_string(pids.init) + " " + std::to_string(pids.started);
}

PidNamespace pid_namespace_from(std::string_view text) {
  PidNamespace pids;
  const char* const end = text.data() + text.size();
  const auto init = std::from_chars(text.data(), end, pids.init);
  if (init.ec != std::errc{} || init.ptr == end || *init.ptr != ' ' || pids.init <= 0) return {};
  const auto started = std::from_chars(init.ptr + 1, end, pids.started);
  if (started.ec != std::errc{} || started.ptr != end) return {};
  return pids;
}

bool populated(const PidNamespace& pids) {
  if (!pids.known()) return false;
  const Stat stat = stat_of(pids.init);
  return stat.started == pids.started && stat.state != 'Z' && stat.state != 'X';
}

Result<void> kill_pid_namespace(const PidNamespace& pids, std::int64_t limit_ms) {
  if (!pids.known()) return {};
  // Opened before the look: what still has that time of start then is what was opened.
  const Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pids.init, 0)));
  const std::int64_t until = steady_ns() + limit_ms * 1'000'000;
  while (populated(pids)) {
    if (pidfd) (void)::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
    if (steady_ns() >= until)
      return fail(ErrorCode::busy, "processes of the pid namespace are still there after " +
                                       std::to_string(limit_ms) + " ms of SIGKILL");
    const timespec pause{.tv_sec = 0, .tv_nsec = 2'000'000};
    ::nanosleep(&pause, nullptr);
  }
  return {};
}

}  // namespace loam::sandbox
