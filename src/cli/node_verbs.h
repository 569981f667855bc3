// The verbs below `loam node` that have a file of their own, and what they share.
#pragma once

#include "cli/verbs.h"

namespace loam::cli {

Verb node_install_verb();
Verb node_uninstall_verb();
Verb node_backup_verb();
Verb node_restore_verb();

struct StopOptions {
  bool jobs = false;  // end them first; else they go on
};
// Asks it to end and waits until it has. unavailable: it still runs after a minute.
Result<void> stop_node(const engines::LocalNode& node, const StopOptions& options);

}  // namespace loam::cli
