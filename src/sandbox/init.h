// Pid 1 of a sandbox: has the job's ids, starts the user's process, passes signals on, reaps, and
// reports the end.
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
  signal_group = 'p',     // the number to the user's process group
  signal_catching = 's',  // the number to the processes that catch it: an uncaught SIGUSR1 kills
};
struct ControlPacket {
  Control kind = Control::go;
  std::uint8_t number = 0;
};

// init → keeper: 'm' with the terminal's master (SCM_RIGHTS); 'e' with the end of the user's
// process.
struct InitPacket {
  char kind = 0;
  std::int32_t status = 0;         // as waitpid's
  std::int64_t largest_bytes = 0;  // resident, of the largest process
};

// What the new process needs; all else is closed before the user's process exists.
struct InitParts {
  const Spec& spec;
  const Sources& sources;
  int control = -1;
  int report = -1;
  int input = -1, output = -1, error = -1;  // the job's ends
  int secrets = -1;
  std::vector<int> v1_tasks;
};
[[noreturn]] void run_init(const InitParts& parts);

}  // namespace loam::sandbox
