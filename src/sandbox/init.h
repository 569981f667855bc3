// Pid 1 of a sandbox: has the job's ids, starts the user's process (a gang's: one for each rank),
// passes signals on, reaps, and reports the end.
#pragma once

#include <cstdint>

#include "base/fd.h"
#include "sandbox/sandbox.h"
#include "sandbox/stage.h"

namespace loam::sandbox {

// keeper → init, one packet each: the kind and a signal number.
enum class Control : std::uint8_t {
  go = 'g',               // start the user's process
  terminate = 't',        // SIGTERM (and SIGCONT) to every process of the sandbox
  kill = 'k',             // SIGKILL to all, and all reaped: their sizes come with the last packet
  signal_group = 'p',     // the number to the process group of the user's process, of each rank's
  signal_catching = 's',  // the number to the processes that catch it: an uncaught SIGUSR1 kills;
                          // how many they were comes back
  join = 'j',             // one more process (join.h), for `session`
  session_signal = 'h',   // the number, and SIGCONT, to the process group of a session
  task = 'n',             // of a lane: argv once more (lane.h)
  connect = 'c',          // to `port` of the sandbox's loopback, IPv4's or 6's by number, for `session`
};
struct ControlPacket {
  Control kind = Control::go;
  std::uint8_t number = 0;
  std::uint16_t port = 0;
  std::uint32_t session = 0;
};

// A lane's besides: 'w' when a task's process has ended and others of it are still about to; 'd' when
// none of them is left, with the task's status, its largest process and its processor time.
//
// init → keeper: 'm' with the terminal's master (SCM_RIGHTS); 's' with how many processes got a
// signal_catching, in `status`; 'r' with the end of one rank of a gang; 'e' with the end of the
// user's process, of a gang's last, whose status is then that of the first that failed; 'n' with the
// terminal's master of a session; 'x' with a session's end; 'c' with the socket of a connect that is
// under way, or why there is none (errno) in `status`.
struct InitPacket {
  char kind = 0;
  std::int32_t status = 0;         // as waitpid's; of 's' a count
  std::int32_t rank = 0;           // of 'r'
  std::uint32_t session = 0;       // of 'n', 'x', 'c'
  std::int64_t largest_bytes = 0;  // resident, of the largest process
  std::int64_t cpu_ns = 0;         // of 'd': of all its processes
};

// What the new process needs; all else is closed before the user's process exists.
struct InitParts {
  const Spec& spec;
  const Sources& sources;
  int control = -1;
  int report = -1;
  int input = -1, output = -1, error = -1;  // the job's ends
  std::vector<int> rank_outputs;            // a gang's
  int secrets = -1;
  bool bind_cpus = false;  // no cgroup holds the job to its CPUs: this process's affinity does
  std::vector<int> v1_tasks;
};
[[noreturn]] void run_init(const InitParts& parts);

// For a pid 1 whose waitpid says that a process stopped: it had asked its parent to trace it
// (PTRACE_TRACEME), and stops at each signal and, by SIGTRAP, at an exec. Nobody traces here: it goes
// on as if it had not asked.
void let_go_on(pid_t tracee, int status);

}  // namespace loam::sandbox
