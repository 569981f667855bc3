// What the node's configuration says of the queue, as the scheduler's policy, and who may use which
// account.
#pragma once

#include <string>

#include "base/result.h"
#include "sched/policy.h"
#include "spec/node_config.h"

namespace loam::node {

sched::Policy policy_for(const spec::NodeConfig& config);

struct AccountUser {
  std::string user;
  bool root = false;  // of a system's node: uses every account
};
// The account that his job counts against: `asked`, else his own of the configuration, else
// default. invalid: there is none of that name (the nearest of those he may use is named).
// denied: he is no member of it.
Result<std::string> account_for(const spec::NodeConfig& config, const AccountUser& user,
                                const std::string& asked);

}  // namespace loam::node
