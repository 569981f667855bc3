#include "node/device_look.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>

#include "node/gpu_units.h"
#include "sandbox/devices.h"

namespace loam::node {
namespace {

constexpr std::chrono::seconds kDriverTime{5};

std::uint64_t rounded_up(std::uint64_t amount, std::uint64_t unit) {
  return (amount + unit - 1) / unit * unit;
}

DeviceTrouble trouble(const DeviceUnit& unit, std::string reason, pid_t pid = 0) {
  return {.device = unit.id, .reason = std::move(reason), .pid = pid};
}

// What its output and record say of a job that asked for a turn.
std::string words_of_share(const GrantedUnit& granted) {
  return granted.unit.id + " is shared in " + std::to_string(granted.of) +
         " time slices, not enforced: each job can fill its memory and take its time";
}

using Variables = std::vector<std::pair<std::string, std::string>>;

// LOAM_DEVICES: {"camera": [{"id": "camera-1", "nodes": ["/dev/video1"]}]}
void describe(const DeviceGrant& grant, Variables& variables) {
  std::map<std::string, Json> kinds;
  for (const GrantedUnit& granted : grant.units)
    if (granted.unit.locked) {
      Json one = Json::object(
          {{"id", granted.unit.id}, {"nodes", Json::array_of(granted.unit.nodes)}});
      if (!granted.unit.uuid.empty()) one.set("uuid", granted.unit.uuid);
      if (granted.shared())
        one.set("time_slice", Json::object({{"parts", granted.parts}, {"of", granted.of}}));
      kinds[granted.unit.kind].push(std::move(one));
    }
  if (kinds.empty()) return;
  Json document = Json::object();
  for (auto& [kind, units] : kinds) document.set(kind, std::move(units));
  set_variable(variables, "LOAM_DEVICES", document.dump());
  show_gpus(grant.units, variables);
}

// Its nodes, those that are not there yet left out where they may be.
std::optional<DeviceTrouble> add_nodes(const DeviceUnit& unit, std::set<std::string>& given,
                                       api::AttemptPlan& plan) {
  for (const auto* paths : {&unit.nodes, &unit.common, &unit.optional})
    for (const std::string& path : *paths) {
      const auto node = sandbox::device_node_at(path);
      if (!node && paths == &unit.optional) continue;
      if (!node) return trouble(unit, node.error().text);
      if (given.insert(path).second)
        plan.devices.push_back({.path = node->path,
                                .block = node->block,
                                .major_number = node->major_number,
                                .minor_number = node->minor_number});
    }
  return {};
}

}  // namespace

const Result<Json>& DeviceLook::gpu_states() {
  if (!states_) {
    auto answer = probe_.gpus ? probe_.gpus->ask("states", kDriverTime)
                              : fail(ErrorCode::unavailable, "NVIDIA's driver is not asked");
    states_ = answer ? Result<Json>((*answer)["states"]) : std::move(answer);
  }
  return *states_;
}

std::optional<DeviceTrouble> DeviceLook::trouble_of(const GrantedUnit& granted) {
  const DeviceUnit& unit = granted.unit;
  if (!unit.locked) return {};
  if (!unit.unusable.empty()) return trouble(unit, unit.unusable);
  for (const std::string& path : unit.common)
    if (const auto node = sandbox::device_node_at(path); !node)
      return trouble(unit, node.error().text);
  const auto locks = locks_of(granted);
  if (!locks) return trouble(unit, locks.error().text);
  for (const sandbox::DeviceLock& lock : *locks)
    if (const auto holder = sandbox::lock_holder(probe_.lock_folder, lock)) {
      const bool any_may_go = lock.count < lock.names.size();  // not this holder alone
      return trouble(unit, "held by " + holder->words, any_may_go ? 0 : holder->pid);
    }
  if (unit.uuid.empty()) return {};
  const Result<Json>& states = gpu_states();
  if (!states) return trouble(unit, states.error().text);
  return gpu_trouble(granted, (*states)[unit.uuid], probe_.ignored_users);
}

std::optional<DeviceTrouble> give_devices(const DeviceGrant& grant, const DeviceProbe& probe,
                                          api::AttemptPlan& plan) {
  DeviceLook look(probe);
  std::set<std::string> given;
  bool any_gpu = false;
  for (const GrantedUnit& granted : grant.units) {
    const DeviceUnit& unit = granted.unit;
    if (!unit.locked) continue;
    if (auto found = look.trouble_of(granted)) return found;
    if (auto found = add_nodes(unit, given, plan)) return found;
    auto locks = locks_of(granted);
    if (!locks) return trouble(unit, locks.error().text);
    for (sandbox::DeviceLock& lock : *locks)
      plan.device_locks.push_back({.device = std::move(lock.device),
                                   .names = std::move(lock.names),
                                   .count = lock.count,
                                   .shared = lock.shared});
    if (granted.shared()) plan.missing.push_back({"gpu-share", words_of_share(granted)});
    any_gpu = any_gpu || !unit.uuid.empty();
  }
  if (!plan.device_locks.empty()) plan.device_lock_folder = probe.lock_folder;
  if (any_gpu) add_driver(probe.driver, plan);
  describe(grant, plan.environment);
  for (std::size_t i = 0; i < std::min(grant.ranks.size(), plan.ranks.size()); ++i) {
    describe(grant.ranks[i], plan.ranks[i].environment);
    plan.ranks[i].cpus = grant.ranks[i].cpus;
  }
  plan.cpus = grant.cpus;
  plan.memory_nodes = grant.memory_nodes;
  plan.pinned = !grant.cpus.empty();
  if (grant.huge_bytes != 0) {
    plan.huge_page_bytes = grant.huge_page_bytes;
    plan.huge_bytes = rounded_up(grant.huge_bytes, grant.huge_page_bytes);
  }
  return std::nullopt;
}

}  // namespace loam::node
