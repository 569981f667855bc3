#include "node/device_units.h"

#include <algorithm>

#include "sandbox/devices.h"

namespace loam::node {
namespace {

std::string lock_name(const sandbox::DeviceNode& node) {
  return std::string(node.block ? "block-" : "char-") + std::to_string(node.major_number) + "-" +
         std::to_string(node.minor_number);
}

}  // namespace

std::vector<DeviceUnit> declared_units(const std::vector<spec::DeclaredDevice>& devices) {
  std::vector<DeviceUnit> units;
  for (const spec::DeclaredDevice& device : devices)
    for (std::size_t i = 0; i < device.units.size(); ++i)
      units.push_back({.id = device.name + "-" + std::to_string(i),
                       .kind = device.name,
                       .model = device.model,
                       .memory_bytes = device.memory_bytes,
                       .nodes = device.units[i],
                       .common = device.common});
  return units;
}

HugePagePool huge_page_pool(const std::vector<devices::HugePages>& pools,
                            std::uint64_t default_page_bytes) {
  for (const devices::HugePages& pool : pools) {
    if (pool.page_bytes != default_page_bytes || pool.total == 0) continue;
    const std::uint64_t pages = (pool.total + kHugePageBlocksMax - 1) / kHugePageBlocksMax;
    return {.page_bytes = pool.page_bytes,
            .block_bytes = pages * pool.page_bytes,
            .blocks = pool.total / pages};
  }
  return {.page_bytes = default_page_bytes};
}

std::vector<DeviceUnit> huge_page_units(const HugePagePool& pool) {
  std::vector<DeviceUnit> units;
  for (std::uint64_t i = 0; i < pool.blocks; ++i)
    units.push_back({.id = "hugepages-" + std::to_string(i),
                     .kind = kHugePageKind,
                     .memory_bytes = pool.block_bytes,
                     .locked = false});
  return units;
}

Result<sandbox::DeviceLock> lock_of(const DeviceUnit& unit) {
  sandbox::DeviceLock lock{.device = unit.id, .names = {}};
  for (const std::string& path : unit.nodes)
    lock.names.push_back(lock_name(LOAM_TRY(sandbox::device_node_at(path))));
  if (lock.names.empty()) lock.names.push_back(unit.id);
  // Two paths of one device are one lock.
  std::sort(lock.names.begin(), lock.names.end());
  lock.names.erase(std::unique(lock.names.begin(), lock.names.end()), lock.names.end());
  lock.count = static_cast<std::uint32_t>(lock.names.size());
  return lock;
}

Result<std::vector<sandbox::DeviceLock>> locks_of(const GrantedUnit& granted) {
  std::vector<sandbox::DeviceLock> locks{LOAM_TRY(lock_of(granted.unit))};
  if (granted.of <= 1) return locks;
  locks[0].shared = granted.shared();
  sandbox::DeviceLock slices{
      .device = granted.unit.id, .names = {}, .count = granted.parts, .shared = false};
  for (std::uint32_t i = 0; i < granted.of; ++i)
    slices.names.push_back(locks[0].names.front() + ".slice-" + std::to_string(i));
  locks.push_back(std::move(slices));
  return locks;
}

void set_variable(std::vector<std::pair<std::string, std::string>>& variables,
                  const std::string& name, const std::string& value) {
  std::erase_if(variables, [&](const auto& variable) { return variable.first == name; });
  variables.emplace_back(name, value);
}

namespace {

Json rank_json(const sched::RankPlacement& placement) {
  Json cpus = Json::array(), nodes = Json::array(), devices = Json::array();
  for (const std::uint32_t cpu : placement.cpus) cpus.push(cpu);
  for (const std::uint32_t node : placement.numa_nodes) nodes.push(node);
  for (const sched::DevicePart& part : placement.devices)
    devices.push(Json::object({{"id", part.device}, {"parts", part.parts}, {"of", part.of}}));
  return Json::object(
      {{"cpus", std::move(cpus)}, {"numa", std::move(nodes)}, {"devices", std::move(devices)}});
}

sched::RankPlacement rank_from(const Json& document) {
  sched::RankPlacement placement;
  for (const Json& cpu : document["cpus"].as_array())
    placement.cpus.push_back(static_cast<std::uint32_t>(cpu.as_int()));
  for (const Json& node : document["numa"].as_array())
    placement.numa_nodes.push_back(static_cast<std::uint32_t>(node.as_int()));
  for (const Json& part : document["devices"].as_array())
    placement.devices.push_back({.device = part["id"].as_string(),
                                 .parts = static_cast<std::uint32_t>(part["parts"].as_int(1)),
                                 .of = static_cast<std::uint32_t>(part["of"].as_int(1))});
  return placement;
}

}  // namespace

sched::RankPlacement all_ranks(const sched::Placement& placement) {
  sched::RankPlacement all;
  const auto append = [](auto& list, const auto& more) {
    list.insert(list.end(), more.begin(), more.end());
  };
  for (const sched::RankPlacement& rank : placement.ranks) {
    append(all.cpus, rank.cpus);
    append(all.numa_nodes, rank.numa_nodes);
    append(all.devices, rank.devices);
  }
  std::sort(all.cpus.begin(), all.cpus.end());
  std::sort(all.numa_nodes.begin(), all.numa_nodes.end());
  all.numa_nodes.erase(std::unique(all.numa_nodes.begin(), all.numa_nodes.end()),
                       all.numa_nodes.end());
  return all;
}

Json to_json(const sched::Placement& placement) {
  Json document = rank_json(all_ranks(placement));
  if (placement.ranks.size() < 2) return document;
  Json ranks = Json::array();
  for (const sched::RankPlacement& rank : placement.ranks) ranks.push(rank_json(rank));
  document.set("ranks", std::move(ranks));
  return document;
}

sched::Placement placement_from(const Json& document) {
  sched::Placement placement;
  if (!document.is_object()) return placement;
  for (const Json& rank : document["ranks"].as_array()) placement.ranks.push_back(rank_from(rank));
  if (placement.ranks.empty()) placement.ranks.push_back(rank_from(document));
  return placement;
}

}  // namespace loam::node
