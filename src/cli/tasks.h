// The tasks of a sweep as a table: parameters, last metrics, how each ended.
#pragma once

#include "base/json.h"
#include "cli/console.h"

namespace loam::cli {

// "3 done, 2 running, 1 failed"; "" where the job is no sweep.
std::string task_counts_text(const Json& job);
// Of each sweep of a run's document (GET /v1/runs/RUN).
void print_tasks(Console& console, const Json& run);

}  // namespace loam::cli
