// A pseudo-terminal of the sandbox's own devpts.
#pragma once

#include "base/fd.h"
#include "base/result.h"
#include "sandbox/init.h"

namespace loam::sandbox {

// In pid 1, with the user's ids, so that the terminal is the user's: the slave. `packet` goes to
// the keeper with the master.
Result<Fd> open_terminal(int control, const InitPacket& packet);

}  // namespace loam::sandbox
