#include "sandbox/signals.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/types.h>

#include <charconv>
#include <string>

#include "base/files.h"
#include "base/process.h"

namespace loam::sandbox {
namespace {

// SigCgt of /proc/PID/status: the signals that a handler waits for.
bool catches(const std::string& pid, int number) {
  const auto text = read_file("/proc/" + pid + "/status");
  if (!text) return false;
  const auto at = text->find("SigCgt:\t");
  if (at == std::string::npos) return false;
  std::uint64_t mask = 0;
  std::from_chars(text->data() + at + 8, text->data() + at + 24, mask, 16);
  return (mask >> (number - 1) & 1) != 0;
}

}  // namespace

// The exec resets what is caught. What the keeper ignores would stay so, and what whoever started the node had ignored
// (nohup, a shell's background, timeout): a job starts as from a terminal.
void reset_signals() {
  for (const int number :
       {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM, SIGCHLD, SIGTTIN, SIGTTOU, 32, 33})
    set_default_signal(number);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

std::int32_t signal_catching(int number) {
  const auto names = list_folder("/proc");
  if (!names) return 0;
  std::int32_t count = 0;
  for (const std::string& name : *names) {
    const auto pid = static_cast<pid_t>(::strtol(name.c_str(), nullptr, 10));
    if (pid <= 1 || !catches(name, number) || ::kill(pid, number) != 0) continue;
    ::kill(pid, SIGCONT);
    ++count;
  }
  return count;
}

}  // namespace loam::sandbox
