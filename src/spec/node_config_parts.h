// The readers of the node configuration's parts, as parts.h is for loam.yaml.
#pragma once

#include <vector>

#include "spec/node_config.h"
#include "spec/reader.h"

namespace loam::spec {

std::vector<DeclaredDevice> read_declared_devices(const Value& value);
GpuSettings read_gpu_settings(const Value& value);
Json to_json(const GpuSettings& settings);
std::optional<Listen> read_listen(const Value& value);
Json to_json(const std::optional<Listen>& listen);
Admins read_admins(const Value& value);
Json to_json(const Admins& admins);

// read_queue_rules.cc. Their devices are checked against what `devices:` declares once all is read.
QueueRules read_queue_rules(const Value& value);
std::vector<Account> read_accounts(const Value& value);
std::vector<User> read_users(const Value& value);
void check_queue_rules(Reader& reader, const NodeConfig& config);
Json to_json(const QueueRules& rules);
Json to_json(const std::vector<Account>& accounts);
Json to_json(const std::vector<User>& users);

}  // namespace loam::spec
