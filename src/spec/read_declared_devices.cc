// `devices:` of the node's configuration.
//
//   licence-x: 3                                 counted, nothing in /dev
//   camera: [/dev/video0, /dev/video1]           a node each
//   fpga: {units: [[/dev/a0, /dev/b0], …], common: [/dev/ctl], model: U250, memory: 64GiB}
#include <algorithm>
#include <array>
#include <map>
#include <string_view>

#include "base/text.h"
#include "spec/checks.h"
#include "spec/node_config_parts.h"

namespace loam::spec {
namespace {

constexpr IntegerRange kCount{1, 1024};
constexpr SizeRange kDeviceMemory{1u << 20, 1ull << 50};
constexpr std::size_t kKindsMax = 64;
constexpr std::size_t kNodesMax = 64;  // of one unit

// Names under which jobs ask for something else.
constexpr std::array<std::string_view, 6> kTaken{"gpu",    "gpus", "cpu",
                                                 "cpus",   "memory", "hugepages"};
// What every job's /dev has already.
constexpr std::array<std::string_view, 14> kOwnNodes{
    "/dev/null",   "/dev/zero",  "/dev/full",   "/dev/random", "/dev/urandom",
    "/dev/tty",    "/dev/ptmx",  "/dev/pts",    "/dev/shm",    "/dev/fd",
    "/dev/stdin",  "/dev/stdout", "/dev/stderr", "/dev/hugepages"};

std::optional<std::string> read_node(const Value& value) {
  auto path = read_absolute_path(value, "a device node such as /dev/video0");
  if (!path) return {};
  const auto own = std::find_if(kOwnNodes.begin(), kOwnNodes.end(), [&](std::string_view one) {
    return starts_with_path(*path, one);
  });
  if (own != kOwnNodes.end()) {
    value.problem(quoted(*path) + " is in every job's /dev; it cannot be handed out");
    return {};
  }
  if (!path->starts_with("/dev/")) {
    value.problem(quoted(*path) + " does not lie below /dev");
    return {};
  }
  return path;
}

std::vector<std::string> read_nodes(const Value& value) {
  std::vector<std::string> nodes;
  if (value.is_text()) {
    if (auto node = read_node(value)) nodes.push_back(std::move(*node));
    return nodes;
  }
  for (const Value& item : value.items("a device node, or a list of them")) {
    if (nodes.size() >= kNodesMax) {
      item.problem("more than " + std::to_string(kNodesMax) + " nodes of one unit");
      break;
    }
    if (auto node = read_node(item)) nodes.push_back(std::move(*node));
  }
  if (value.is_list() && value.node().items.empty())
    value.problem("is an empty list; a unit without nodes is counted: write count: N instead");
  return nodes;
}

void read_units(const Value& value, DeclaredDevice& device) {
  for (const Value& item : value.items("a list of units, each a device node or a list of them")) {
    if (device.units.size() >= static_cast<std::size_t>(kCount.max)) {
      item.problem("more than " + std::to_string(kCount.max) + " units");
      break;
    }
    device.units.push_back(read_nodes(item));
  }
  if (value.is_list() && device.units.empty())
    value.problem("is an empty list; expected at least one unit");
}

void read_counted(const Value& value, DeclaredDevice& device) {
  device.units.resize(static_cast<std::size_t>(value.integer(kCount).value_or(1)));
}

DeclaredDevice read_device(const std::string& name, const Value& value) {
  DeclaredDevice device;
  device.name = name;
  device.place = value.key_place();
  if (value.is_list()) {
    read_units(value, device);
    return device;
  }
  if (!value.is_map()) {
    read_counted(value, device);
    return device;
  }
  const Section section(value, {"count", "units", "common", "model", "memory"},
                        "a number, a list of device nodes, or a map with count or units");
  const auto count = section.find("count"), units = section.find("units");
  if (count && units)
    count->reader().problem(count->key_place(), count->key(),
                            "cannot stand beside units:, whose length is the count");
  else if (units)
    read_units(*units, device);
  else if (const auto needed = section.need("count", "how many there are, or units:"))
    read_counted(*needed, device);
  if (const auto common = section.find("common")) device.common = read_nodes(*common);
  if (const auto model = section.find("model"))
    device.model = model->written("a model's name").value_or("");
  if (const auto memory = section.find("memory"))
    device.memory_bytes = memory->size_bytes(kDeviceMemory).value_or(0);
  return device;
}

// A node handed out twice would have two owners.
void check_nodes(Reader& reader, const std::vector<DeclaredDevice>& devices) {
  std::map<std::string, std::string> owner;  // node → "camera"
  for (const DeclaredDevice& device : devices)
    for (const auto& nodes : device.units)
      for (const std::string& node : nodes) {
        const auto [known, is_new] = owner.emplace(node, device.name);
        if (!is_new)
          reader.problem(device.place, join_key("devices", device.name),
                         quoted(node) + " is a node of another unit of " + quoted(known->second) +
                             "; one that several need is common:");
      }
  for (const DeclaredDevice& device : devices)
    for (const std::string& node : device.common)
      if (const auto known = owner.find(node); known != owner.end())
        reader.problem(device.place, join_key("devices", device.name),
                       quoted(node) + " is common: and also a unit's of " + quoted(known->second));
}

}  // namespace

std::vector<DeclaredDevice> read_declared_devices(const Value& value) {
  std::vector<DeclaredDevice> devices;
  for (const NamedValue& member : value.members("a map such as {licence-x: 3}")) {
    if (devices.size() >= kKindsMax) {
      member.value.problem("more than " + std::to_string(kKindsMax) + " kinds of devices");
      break;
    }
    if (std::find(kTaken.begin(), kTaken.end(), member.name) != kTaken.end()) {
      member.value.reader().problem(member.value.key_place(), member.value.key(),
                                    "is the name of something else that jobs ask for; choose "
                                    "another");
      continue;
    }
    if (check_name(member)) devices.push_back(read_device(member.name, member.value));
  }
  check_nodes(value.reader(), devices);
  return devices;
}

}  // namespace loam::spec
