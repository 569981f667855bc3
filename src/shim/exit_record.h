// The exit record: exit.json in the attempt's folder. Written once, durably, before anyone hears of
// the end. Its room on the disk is taken at the attempt's start: what the job writes may fill the
// disk, and its end is still recorded.
#pragma once

#include <string>

#include "api/attempt.h"
#include "base/result.h"

namespace loam::shim {

// `full` where the disk has no room even now. Where the filesystem cannot set room aside, it is not.
Result<void> reserve_exit_record(const std::string& folder);
// Idempotent: a record that is there already stays as it is.
Result<void> write_exit_record(const std::string& folder, const api::ExitRecord& record);
bool has_exit_record(const std::string& folder);

}  // namespace loam::shim
