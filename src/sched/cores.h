// Whole cores for claims that are pinned: in one NUMA node and under one cache where they fit, and
// there where least room is left over.
#pragma once

#include <cstdint>
#include <vector>

#include "sched/machine.h"

namespace loam::sched {

class Cores {
 public:
  // `pinned`: by index of machine.cpus. A core with one pinned CPU is taken whole.
  Cores(const Machine& machine, const std::vector<bool>& pinned);
  // Cores with at least `cpus` CPUs, taken from what is free; their CPU ids, ascending. Fewer where
  // there are no more. `node`: where to look first, -1: where it fits best.
  std::vector<std::uint32_t> take(std::int64_t cpus, std::int32_t node);

 private:
  struct Group {  // free cores under one cache of one node
    std::uint32_t numa = 0, cache = 0;
    std::int64_t room = 0;                          // CPUs
    std::vector<std::vector<std::uint32_t>> cores;  // widest last
  };
  Group& best_group(std::int64_t cpus, std::int32_t node);
  std::vector<Group> groups_;
};

}  // namespace loam::sched
