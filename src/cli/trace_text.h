// Layers of a trace (docs/trace.md) as lines: one heading per layer, its most telling facts below,
// aligned. Pure; records are foreign text and come out printable.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/json.h"

namespace loam::cli {

struct TraceLine {
  std::string kind;    // "run"; "" goes on with the layer above
  std::string digest;  // short, "" for none
  std::string text;
};
// {of, request?, layers: [{kind, digest, record}]} top-down.
std::vector<TraceLine> trace_lines(const Json& trace);
std::string format_trace(const std::vector<TraceLine>& lines);

}  // namespace loam::cli
