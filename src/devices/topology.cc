#include "devices/topology.h"

#include <hwloc.h>
#include <sched.h>

#include <map>
#include <memory>
#include <tuple>

namespace loam::devices {
namespace {

Json caches_of(hwloc_topology_t topology) {
  constexpr std::tuple<hwloc_obj_type_t, int, const char*> kKinds[] = {
      {HWLOC_OBJ_L1CACHE, 1, "data"},    {HWLOC_OBJ_L1ICACHE, 1, "instruction"},
      {HWLOC_OBJ_L2CACHE, 2, "unified"}, {HWLOC_OBJ_L3CACHE, 3, "unified"},
      {HWLOC_OBJ_L4CACHE, 4, "unified"},
  };
  Json caches = Json::array();
  for (const auto& [type, level, kind] : kKinds) {
    std::map<std::uint64_t, int> counts;  // sizes differ on machines with two sorts of cores
    for (hwloc_obj_t cache = nullptr;
         (cache = hwloc_get_next_obj_by_type(topology, type, cache)) != nullptr;)
      ++counts[cache->attr->cache.size];
    for (const auto& [size_bytes, count] : counts)
      caches.push(Json::object(
          {{"level", level}, {"kind", kind}, {"size_bytes", size_bytes}, {"count", count}}));
  }
  return caches;
}

}  // namespace

Json read_topology() {
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) return nullptr;
  hwloc_topology_set_icache_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_ALL);
  // Only what is asked for below: no PCI walk, no OS devices.
  hwloc_topology_set_io_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
  if (hwloc_topology_load(topology) != 0) {
    hwloc_topology_destroy(topology);
    return nullptr;
  }
  const auto count = [&](hwloc_obj_type_t type) {
    return hwloc_get_nbobjs_by_type(topology, type);
  };
  // A node's memory is not named: where it is plugged in and out by need (virtio-mem), it changes by
  // the minute, and the machine would be another one at each look.
  Json numa = Json::array();
  for (hwloc_obj_t node = nullptr;
       (node = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, node)) != nullptr;)
    numa.push(Json::object({{"threads", hwloc_bitmap_weight(node->cpuset)}}));
  Json facts = Json::object({{"packages", count(HWLOC_OBJ_PACKAGE)},
                             {"cores", count(HWLOC_OBJ_CORE)},
                             {"threads", count(HWLOC_OBJ_PU)},
                             {"numa", numa},
                             {"caches", caches_of(topology)}});
  hwloc_topology_destroy(topology);
  return facts;
}

namespace {

using Topology = std::unique_ptr<hwloc_topology, decltype(&hwloc_topology_destroy)>;

Result<Topology> load_topology(const std::string& synthetic) {
  hwloc_topology_t made = nullptr;
  if (hwloc_topology_init(&made) != 0) return fail(ErrorCode::io, "hwloc cannot be used");
  Topology topology(made, hwloc_topology_destroy);
  hwloc_topology_set_io_types_filter(made, HWLOC_TYPE_FILTER_KEEP_NONE);
  if (!synthetic.empty() && hwloc_topology_set_synthetic(made, synthetic.c_str()) != 0)
    return fail(ErrorCode::invalid, "hwloc does not understand '" + synthetic + "'");
  if (hwloc_topology_load(made) != 0) return fail(ErrorCode::io, "hwloc cannot read this machine");
  return topology;
}

// What the scheduler of the kernel would put this process on.
bool may_use(std::uint32_t cpu, const std::string& synthetic) {
  cpu_set_t usable;
  CPU_ZERO(&usable);
  if (!synthetic.empty() || ::sched_getaffinity(0, sizeof usable, &usable) != 0) return true;
  return cpu < CPU_SETSIZE && CPU_ISSET(cpu, &usable);
}

// The largest cache above a hardware thread; a machine that tells of none has one for all.
std::uint32_t last_cache(hwloc_obj_t thread) {
  std::uint32_t index = 0;
  for (hwloc_obj_t above = thread; above != nullptr; above = above->parent)
    if (hwloc_obj_type_is_dcache(above->type)) index = above->logical_index;
  return index;
}

std::uint32_t node_index(hwloc_topology_t topology, hwloc_obj_t thread) {
  const int first = thread->nodeset != nullptr ? hwloc_bitmap_first(thread->nodeset) : -1;
  const hwloc_obj_t node =
      first < 0 ? nullptr
                : hwloc_get_numanode_obj_by_os_index(topology, static_cast<unsigned>(first));
  return node == nullptr ? 0 : node->logical_index;
}

}  // namespace

Result<Cpus> read_cpus(const std::string& synthetic) {
  const Topology topology = LOAM_TRY(load_topology(synthetic));
  Cpus found;
  for (hwloc_obj_t node = nullptr;
       (node = hwloc_get_next_obj_by_type(topology.get(), HWLOC_OBJ_NUMANODE, node)) != nullptr;)
    found.nodes.push_back({node->os_index, node->attr->numanode.local_memory});
  for (hwloc_obj_t thread = nullptr;
       (thread = hwloc_get_next_obj_by_type(topology.get(), HWLOC_OBJ_PU, thread)) != nullptr;) {
    if (!may_use(thread->os_index, synthetic)) continue;
    const hwloc_obj_t core =
        hwloc_get_ancestor_obj_by_type(topology.get(), HWLOC_OBJ_CORE, thread);
    found.cpus.push_back({.id = thread->os_index,
                          .core = core != nullptr ? core->logical_index : thread->logical_index,
                          .numa = node_index(topology.get(), thread),
                          .cache = last_cache(thread)});
  }
  if (found.cpus.empty() || found.nodes.empty())
    return fail(ErrorCode::unavailable, "hwloc finds no CPU on this machine");
  return found;
}

}  // namespace loam::devices
