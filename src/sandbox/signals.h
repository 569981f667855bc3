// Signals of a sandbox's processes. For its init: pids are those of its namespace.
#pragma once

#include <cstdint>

namespace loam::sandbox {

// To their defaults and unblocked, before the exec of a job.
void reset_signals();
// To every process but the first that catches `number`. How many there were; a stopped one is woken, since it could
// not heed the signal otherwise.
std::int32_t signal_catching(int number);

}  // namespace loam::sandbox
