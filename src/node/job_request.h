// What a job asks for besides CPUs and memory, as its row (column `request`) and a command's
// submission carry it:
//
//   {"pin": true, "huge_bytes": N, "devices": [{"kind", "count", "model", "memory_bytes"}], "ranks": N}
//
// What is left out is not asked for. With `ranks` the job is a gang, and all else is of each rank.
#pragma once

#include "base/json.h"
#include "base/result.h"
#include "node/device_units.h"
#include "sched/claim.h"
#include "spec/project.h"

namespace loam::node {

Json request_json(const spec::Resources& resources, int ranks = 0);
// Of foreign bytes: what a command asks for, with only the keys above.
Result<Json> checked_request(const Json& command);
// How many processes: 1 where it is no gang.
std::uint32_t ranks_of(const Json& request);
// Huge pages are asked of the scheduler in blocks of the pool.
void add_request(const Json& document, const HugePagePool& pool, sched::Request& request);

// What this machine can never give, "" where it may: names that nobody declared (with the nearest
// one), more huge pages than are set aside.
std::string request_problem(const Json& document, const std::vector<std::string>& kinds,
                            const HugePagePool& pool);

}  // namespace loam::node
