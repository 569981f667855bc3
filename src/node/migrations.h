// What the node's database looks like: every change of it since the first format, in order.
#pragma once

#include <string>
#include <vector>

namespace loam::node {

struct Migration {
  std::string name;  // what it brings; for the log and for errors
  std::vector<std::string>
      statements;  // run in order, one transaction with the new format's number
};

// The format of a database (PRAGMA user_version) is how many of these it has seen.
const std::vector<Migration>& migrations();

}  // namespace loam::node
