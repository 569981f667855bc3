// The exit record: exit.json in the attempt's folder. Written once, durably, before anyone hears of
// the end.
#pragma once

#include <string>

#include "api/attempt.h"
#include "base/result.h"

namespace loam::shim {

// Idempotent: a record that is there already stays as it is.
Result<void> write_exit_record(const std::string& folder, const api::ExitRecord& record);
bool has_exit_record(const std::string& folder);

}  // namespace loam::shim
