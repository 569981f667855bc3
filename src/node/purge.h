// `loam node uninstall --purge`: all that a node ever kept on this machine.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace loam::node {

struct PurgeOptions {
  bool force = false;  // end what still runs, instead of refusing
};

// Of the node that these environment variables and ids name: groups, device locks, state, socket
// folder, and, for the system's own, the subordinate ids that were reserved. One line for each
// thing that went. busy: a node or, without force, an attempt still runs. Before any thread is made
// (bootstrap.h).
Result<std::vector<std::string>> purge(const PurgeOptions& options);

// Lock files of devices in `folder` that nobody holds (sandbox/device_lock.h): an
// owner's stays, or two nodes would hold locks of the same name.
Result<bool> remove_device_locks(const std::string& folder);

}  // namespace loam::node
