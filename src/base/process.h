// Starting helper programs: fork and exec with nothing inherited but what is named.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace loam {

struct SpawnOptions {
  std::vector<std::string> argv;                // argv[0] a path, or a name looked up in PATH
  std::vector<std::string> environment;         // "NAME=value"; empty: the caller's own
  std::string directory;                        // "" : the caller's own
  int standard_input = -1;                      // -1: /dev/null
  int standard_output = -1;                     // -1: the caller's own
  int standard_error = -1;                      // -1: the caller's own
  std::vector<std::pair<int, int>> descriptors; // {ours, number in the child}: inherited, number >= 3
  bool own_session = false;                     // setsid: survives the caller's terminal
  bool own_group = false;                       // setpgid(0, 0): a terminal's Ctrl-C passes it by
  // Runs in the child between fork and exec; may only make system calls; non-zero ends the child.
  std::function<int()> before_exec;
};

// The child's descriptors above 2 are closed except those named. Errors of exec come back here.
Result<Child> spawn(const SpawnOptions& options);

struct Output {
  int status = 0;         // as waitpid's
  std::string standard_output;
  std::string standard_error;
  bool ok() const { return status == 0; }
};
// Runs to the end and collects; each stream at most 16 MiB (the rest is dropped).
Result<Output> run_collect(SpawnOptions options);

// SIG_DFL, by system calls alone: also for 32 and 33, which the C library keeps to itself and a starter may
// have had ignored all the same.
void set_default_signal(int number);

// "exit status 3", "killed by signal 9 (Killed)".
std::string describe_status(int wait_status);

}  // namespace loam
