// What must be known about an attempt whose shim may be dead, found on a worker thread: its lock,
// its exit record, and, without one, that none of its processes remains (recovery.md, "The lock",
// "Fence").
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "api/attempt.h"
#include "base/fd.h"
#include "base/result.h"
#include "sandbox/cgroup.h"

namespace loam::node {

// Takes the attempt's lock on a fresh description. busy: a shim lives. not_found: nobody ever took
// it.
Result<Fd> take_lock(const std::string& folder, bool create);
// The same, waiting for a dying shim to let go. busy at the limit.
Result<Fd> await_lock(const std::string& folder, std::int64_t limit_ms);

// exit.json, where there is a whole one of this attempt.
std::optional<api::ExitRecord> read_exit_record(const std::string& folder,
                                                const std::string& attempt);

// Kills what is left of the attempt and waits until it is gone. false: something survived the
// limit.
bool fence(const std::string& folder, const sandbox::CgroupPaths& cgroup);

// Connects to a living shim's socket, waiting for it to appear. unavailable: the shim died
// meanwhile (its lock is free) or did not listen within the limit.
Result<Fd> connect_to_shim(const std::string& folder, std::int64_t limit_ms);

// The last line of the shim's own log, "" where it said nothing.
std::string last_words(const std::string& folder);

}  // namespace loam::node
