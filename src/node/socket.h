// The node's listening socket.
#pragma once

#include <cstdint>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "node/paths.h"

namespace loam::node {

// Listens at paths.socket; what a dead node left there is replaced. busy: another node answers
// there. Root's socket is everyone's to connect to (the kernel says who calls), a user's own is the
// user's alone.
Result<Fd> listen_at(const Paths& paths, const Identity& identity);

bool node_listens(const Paths& paths);

}  // namespace loam::node
