// What `loam sim` says of one simulation or several side by side.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "sim/measures.h"

namespace loam::cli {

struct Simulated {
  std::string policy;  // its file, or "default"
  sim::Options options;
  sim::Outcome outcome;
  sim::Measures measures;
};

// A column for each.
std::string simulations_text(const sim::Trace& trace, const std::vector<Simulated>& simulations);
Json to_json(const sim::Trace& trace, const std::vector<Simulated>& simulations);
// A line for each job of the trace, with a header: RFC 4180, times in the trace's own.
std::string jobs_csv(const sim::Trace& trace, const sim::Outcome& outcome, std::size_t first,
                     std::size_t count);
inline constexpr std::string_view kJobsCsvHeader =
    "id,user,account,submit,start,end,wait,slowdown,state,preemptions\n";

}  // namespace loam::cli
