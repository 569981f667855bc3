#include "sched/machine.h"

#include <algorithm>
#include <numeric>

namespace loam::sched {

std::uint64_t Machine::cpu_milli_total() const {
  const std::uint64_t all = std::uint64_t{cpus.size()} * 1000;
  return cpu_milli == 0 ? all : std::min(cpu_milli, all);
}

std::uint64_t Machine::memory_total() const {
  return std::accumulate(memory_bytes.begin(), memory_bytes.end(), std::uint64_t{0});
}

Machine simple_machine(const SimpleMachine& facts) {
  Machine machine;
  for (std::uint32_t i = 0; i < facts.cpus; ++i) machine.cpus.push_back({.id = i, .core = i});
  machine.memory_bytes = {facts.memory_bytes};
  for (std::uint32_t i = 0; i < facts.gpus; ++i)
    machine.devices.push_back(
        {.id = "gpu-" + std::to_string(i), .kind = "gpu", .memory_bytes = facts.gpu_memory_bytes});
  return machine;
}

}  // namespace loam::sched
