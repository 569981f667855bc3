// Jobs as rows for a person: `loam ps`, of one node or of several boxes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/console.h"
#include "cli/table.h"

namespace loam::cli {

Table job_table();
std::vector<std::string> job_cells(const Json& job, std::int64_t now_ms);

// Runs that serve now, as {"project", "endpoint", "run"}.
Json endpoints_of(const Json& runs);

}  // namespace loam::cli
