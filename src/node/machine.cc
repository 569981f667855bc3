#include "node/machine.h"

#include <string>
#include <utility>

#include "base/log.h"
#include "base/text.h"

namespace loam::node {
namespace {

tl::unexpected<Error> at_reserve(const LoadedConfig& loaded, std::string message) {
  std::string text = spec::format_problems(
      loaded.path, {{loaded.config.reserve.place, "reserve", std::move(message)}});
  return fail(ErrorCode::invalid, std::string(trim(text)));
}

// `total` over the nodes, in the proportions of their memory: a cgroup's limit or a reserve says
// nothing of nodes.
std::vector<std::uint64_t> spread(std::uint64_t total, const std::vector<devices::NumaNode>& nodes) {
  std::uint64_t all = 0;
  for (const devices::NumaNode& node : nodes) all += node.memory_bytes;
  std::vector<std::uint64_t> shares;
  std::uint64_t left = total;
  for (const devices::NumaNode& node : nodes) {
    const auto share = all == 0 ? 0
                                : static_cast<std::uint64_t>(
                                      static_cast<unsigned __int128>(total) * node.memory_bytes / all);
    shares.push_back(share);
    left -= share;
  }
  if (!shares.empty()) shares.front() += left;
  return shares;
}

// The scheduler counts nodes, the kernel names them.
std::int32_t node_index(const Hardware& hardware, std::int32_t id) {
  for (std::size_t i = 0; i < hardware.cpus.nodes.size(); ++i)
    if (id >= 0 && hardware.cpus.nodes[i].id == static_cast<std::uint32_t>(id))
      return static_cast<std::int32_t>(i);
  return -1;
}

}  // namespace

Hardware read_hardware() {
  Hardware hardware{.capacity = devices::read_capacity(), .cpus = {}};
  if (auto cpus = devices::read_cpus())
    hardware.cpus = std::move(*cpus);
  else
    log_warning("no topology, so no pinned CPUs: " + cpus.error().text);
  return hardware;
}

Result<sched::Machine> machine_for(const LoadedConfig& loaded, const Hardware& hardware,
                                   std::vector<sched::Device> devices,
                                   std::vector<sched::Link> links) {
  const spec::Reserve& reserve = loaded.config.reserve;
  const devices::Capacity& capacity = hardware.capacity;
  const std::uint64_t cpu_milli = std::uint64_t{capacity.cpus} * 1000;
  if (reserve.cpu_milli >= cpu_milli)
    return at_reserve(loaded, "leaves no CPU for jobs; this machine has " +
                                  std::to_string(capacity.cpus));
  if (reserve.memory_bytes >= capacity.memory_bytes)
    return at_reserve(loaded, "leaves no memory for jobs; this machine has " +
                                  format_size(capacity.memory_bytes));
  const std::uint64_t memory_bytes = capacity.memory_bytes - reserve.memory_bytes;
  sched::Machine machine;
  if (hardware.cpus.cpus.empty())
    machine = sched::simple_machine({.cpus = capacity.cpus, .memory_bytes = memory_bytes});
  else
    machine.memory_bytes = spread(memory_bytes, hardware.cpus.nodes);
  for (const devices::Cpu& cpu : hardware.cpus.cpus)
    machine.cpus.push_back(
        {.id = cpu.id, .core = cpu.core, .numa = cpu.numa, .cache = cpu.cache});
  machine.cpu_milli = cpu_milli - reserve.cpu_milli;
  machine.devices = std::move(devices);
  for (sched::Device& device : machine.devices) device.numa = node_index(hardware, device.numa);
  machine.links = std::move(links);
  return machine;
}

}  // namespace loam::node
