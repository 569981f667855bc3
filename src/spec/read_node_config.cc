#include <cmath>

#include "spec/node_config_parts.h"
#include "spec/yaml.h"

namespace loam::spec {
namespace {

constexpr NumberRange kReservedCpus{0, 4096};
constexpr SizeRange kReservedMemory{0, 1ull << 50};

Reserve read_reserve(const Value& value) {
  const Section section(value, {"cpus", "memory"}, "a map such as {cpus: 1, memory: 2GiB}");
  Reserve reserve;
  reserve.place = value.key_place();
  if (const auto cpus = section.find("cpus"))
    if (const auto count = cpus->number(kReservedCpus))
      reserve.cpu_milli = static_cast<std::uint32_t>(std::lround(*count * 1000));
  if (const auto memory = section.find("memory"))
    reserve.memory_bytes = memory->size_bytes(kReservedMemory).value_or(0);
  return reserve;
}

NodeConfig read_config(Reader& reader, const Node& root) {
  NodeConfig config;
  const Section top(Value(reader, root, "", {1, 1}), {"reserve", "devices", "gpus", "queue", "accounts", "users",
                     "admins", "listen"},
                    "a map of keys such as `reserve: {memory: 2GiB}`");
  if (const auto item = top.find("reserve")) config.reserve = read_reserve(*item);
  if (const auto item = top.find("devices")) config.devices = read_declared_devices(*item);
  if (const auto item = top.find("gpus")) config.gpus = read_gpu_settings(*item);
  if (const auto item = top.find("queue")) config.queue = read_queue_rules(*item);
  if (const auto item = top.find("accounts")) config.accounts = read_accounts(*item);
  if (const auto item = top.find("users")) config.users = read_users(*item);
  if (const auto item = top.find("admins")) config.admins = read_admins(*item);
  if (const auto item = top.find("listen")) config.listen = read_listen(*item);
  check_queue_rules(reader, config);
  return config;
}

}  // namespace

NodeConfigResult read_node_config(std::string_view text) {
  Document document = read_yaml(text);
  Reader reader{nullptr, nullptr, std::move(document.problems), {}};
  NodeConfig config;
  // Nothing but comments is a file too: everything has a default.
  if (document.root && document.root->kind != Node::Kind::null)
    config = read_config(reader, *document.root);
  NodeConfigResult result;
  if (reader.problems.empty()) result.config = std::move(config);
  result.problems = reader.in_file_order();
  return result;
}

Json to_json(const NodeConfig& config) {
  Json devices = Json::object();
  for (const DeclaredDevice& device : config.devices) {
    Json units = Json::array();
    for (const auto& nodes : device.units) units.push(Json::array_of(nodes));
    devices.set(device.name, Json::object({{"units", std::move(units)},
                                           {"common", Json::array_of(device.common)},
                                           {"model", device.model},
                                           {"memory_bytes", device.memory_bytes}}));
  }
  return Json::object({{"reserve", Json::object({{"cpu_milli", config.reserve.cpu_milli},
                                                 {"memory_bytes", config.reserve.memory_bytes}})},
                       {"devices", std::move(devices)},
                       {"gpus", to_json(config.gpus)},
                       {"queue", to_json(config.queue)},
                       {"accounts", to_json(config.accounts)},
                       {"users", to_json(config.users)},
                       {"admins", to_json(config.admins)},
                       {"listen", to_json(config.listen)}});
}

}  // namespace loam::spec
