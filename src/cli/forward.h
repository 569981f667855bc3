// Forwarding a job's ports until the job ends: by `loam forward`, or beside `loam run --port` in a
// process of its own, for the streams of the command have a loop of theirs.
#pragma once

#include <string>
#include <vector>

#include "base/fd.h"
#include "cli/port_forward.h"
#include "cli/signals.h"

namespace loam::cli {

struct Forwarding {
  std::string target;  // RUN[/STEP[/ATTEMPT]]
  std::vector<PortPair> ports;
  bool beside_command = false;  // standard output is the command's, and its end is told elsewhere
};
// Returns the exit status; an interrupt ends it, which is how it usually ends.
int forward_until_end(Console& console, const engines::LocalNode& node, Signals& signals,
                      const Forwarding& forwarding);
// In a child, which ends with us or when the result goes.
Result<Child> forward_beside(Console& console, const engines::LocalNode& node,
                             const Forwarding& forwarding);

}  // namespace loam::cli
