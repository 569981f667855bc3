// One command's run, watched to its end: attaches to it as soon as it runs, passes its streams, and
// returns its own exit status. Used by `loam run` and `loam shell`.
//
//   submitted run ── attach ──▶ AttachEnd ── exited ──▶ status
//        │ not running yet: its events are followed       └─ lost: its log and its last state are
//        asked for
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "cli/attach_session.h"
#include "cli/console.h"
#include "cli/signals.h"
#include "engines/local_node.h"

namespace loam::cli {

struct CommandRun {
  std::int64_t run = 0;
  bool terminal = false;
  bool input = false;
  bool interrupted = false;  // an interrupt came during submission
};

// Returns the exit status of this program.
int watch_command(Console& console, const engines::LocalNode& node, Signals& signals,
                  const CommandRun& command);

}  // namespace loam::cli
