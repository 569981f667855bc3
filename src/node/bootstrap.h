// From a started process to a NodeContext: folders, the one-node lock, ids, cgroups.
#pragma once

#include "base/fd.h"
#include "base/result.h"
#include "node/database.h"
#include "node/paths.h"

namespace loam::node {

struct Bootstrap {
  NodeContext context;  // without cgroups: see recorded_cgroups()
  Fd lock;              // STATE/node.lock, ours until we end
};

// Makes the folders, takes the lock (busy: says who holds it), becomes what the node runs as. An
// ordinary user's process is 0 of its own namespace afterwards. Before any thread is made.
Result<Bootstrap> bootstrap();

// STATE's folders with their modes.
Result<void> make_state_folders(const Paths& paths);

// The parents that the node recorded at its first start of this boot, else found and recorded now.
Result<sandbox::CgroupParents> recorded_cgroups(Database& database, const NodeContext& context);

}  // namespace loam::node
