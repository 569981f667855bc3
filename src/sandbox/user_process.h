// What pid 1 of a sandbox becomes by a fork and an exec: a process of the user.
//
//   fork ─▶ session and terminal ─ standard streams ─ secrets ─ no other descriptor ─ exec
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "sandbox/sandbox.h"

namespace loam::sandbox {

struct UserProcess {
  const Spec& spec;
  const std::vector<std::string>& argv;
  std::vector<std::pair<std::string, std::string>> environment;  // instead of the Spec's
  std::vector<std::uint32_t> cpus;                               // its affinity; empty: as it is
  int terminal = -1;                        // all three streams, and the controlling one
  int input = -1, output = -1, error = -1;  // input -1: /dev/null; error -1: where output goes
  int secrets = -1;
  int report = -1;  // hears of the exec (Sandbox::report); -1: a failure is told on standard error
};

// In a child of pid 1. Status 127 (not found) or 126 where nothing could be executed.
[[noreturn]] void run_user_process(const UserProcess& process);

// The text and a zero byte to `report`, then the end.
[[noreturn]] void give_up(int report, const Error& error);

}  // namespace loam::sandbox
