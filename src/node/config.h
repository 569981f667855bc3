// The node's configuration file: who may write it, and what is in force. Read at the node's start,
// on SIGHUP and on `loam node reload`; a file with problems changes nothing.
#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "node/paths.h"
#include "node/rights.h"
#include "spec/node_config.h"

namespace loam::node {

struct LoadedConfig {
  spec::NodeConfig config;
  AdminIds admins;
  std::string path;
  bool present = false;  // a file that is not there is all defaults
  std::int64_t read_ms = 0;
};
Json to_json(const LoadedConfig& loaded);

// invalid: every problem of the file, a line each. denied: a root node's file that others can
// write.
Result<LoadedConfig> load_config(const Paths& paths, const Identity& identity);

}  // namespace loam::node
