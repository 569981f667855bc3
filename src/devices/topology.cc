#include "devices/topology.h"

#include <hwloc.h>

#include <map>
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
  Json numa = Json::array();
  for (hwloc_obj_t node = nullptr;
       (node = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, node)) != nullptr;)
    numa.push(Json::object({{"memory_bytes", node->attr->numanode.local_memory}}));
  Json facts = Json::object({{"packages", count(HWLOC_OBJ_PACKAGE)},
                             {"cores", count(HWLOC_OBJ_CORE)},
                             {"threads", count(HWLOC_OBJ_PU)},
                             {"numa", numa},
                             {"caches", caches_of(topology)}});
  hwloc_topology_destroy(topology);
  return facts;
}

}  // namespace loam::devices
