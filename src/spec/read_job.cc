// What steps and services have in common: resources, network, sandbox. And a step's parameters.
#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "spec/checks.h"
#include "spec/parts.h"
#include "spec/scalar.h"

namespace loam::spec {
namespace {

constexpr NumberRange kCpus{0.1, 4096};
constexpr SizeRange kMemory{static_cast<std::uint64_t>(kJobMemoryBytesMin), 1ull << 50};
constexpr SizeRange kHugePages{64u << 10, 1ull << 50};
constexpr IntegerRange kPriority{-1000, 1000};
constexpr DurationRange kTime{std::chrono::milliseconds(1), std::chrono::hours(24 * 3650)};

// As sandbox/guards.h names them.
const std::vector<std::string>& guard_names() {
  static const std::vector<std::string> kNames{
      "namespaces", "seccomp", "memory",          "cpu",     "processes", "network",
      "devices",    "idmap",   "user_namespaces", "overlay", "kill",      "no_new_privs",
      "pinning",    "hugepages"};
  return kNames;
}

std::optional<Json> read_param_scalar(const Value& value) {
  const std::string& text = value.node().text;
  switch (scalar_type(value.node())) {
    case ScalarType::text:
      return Json(text);
    case ScalarType::boolean:
      return Json(text[0] == 't' || text[0] == 'T');
    case ScalarType::integer: {
      if (has_leading_zero(text)) {
        value.problem(quoted(text) +
                      " could be read as octal; write it without the leading zero, or in quotes");
        return {};
      }
      const auto integer = parse_integer(text);
      if (integer && *integer <= kJsonIntMax && *integer >= -kJsonIntMax) return Json(*integer);
      value.problem(quoted(text) +
                    " is out of range; whole numbers go to 2^53, larger ones in quotes");
      return {};
    }
    case ScalarType::fraction:
      break;
  }
  if (const auto number = parse_number(text)) return Json(*number);
  value.problem(quoted(text) +
                " is no finite number, which parameters cannot carry; put it in quotes");
  return {};
}

}  // namespace

Json read_param(const Value& value) {
  switch (value.node().kind) {
    case Node::Kind::null:
      return {};
    case Node::Kind::scalar:
      return read_param_scalar(value).value_or(Json());
    case Node::Kind::list: {
      Json list = Json::array();
      for (const Value& item : value.items("a list")) list.push(read_param(item));
      return list;
    }
    case Node::Kind::map:
      break;
  }
  Json map = Json::object();
  for (const NamedValue& member : value.members("a map")) {
    if (member.name.empty())
      value.reader().problem(member.value.key_place(), value.key(), "an empty name of a parameter");
    map.set(member.name, read_param(member.value));
  }
  return map;
}

Resources read_resources(const Value& value, Claimant claimant) {
  std::vector<std::string> keys{"cpus", "pin", "memory", "hugepages", "gpus", "devices"};
  if (claimant == Claimant::step) keys.push_back("time");
  const Section section(value, keys, "a map such as {cpus: 2, memory: 2GiB}");
  Resources resources;
  resources.place = value.key_place();
  if (const auto cpus = section.find("cpus"))
    if (const auto count = cpus->number(kCpus))
      resources.cpu_milli = static_cast<std::uint32_t>(std::lround(*count * 1000));
  if (const auto memory = section.find("memory"))
    resources.memory_bytes = memory->size_bytes(kMemory).value_or(resources.memory_bytes);
  if (const auto pin = section.find("pin")) {
    resources.pin = pin->boolean().value_or(false);
    if (resources.pin && resources.cpu_milli % 1000 != 0)
      pin->problem("pinned CPUs are whole ones; write cpus: " +
                   std::to_string(resources.cpu_milli / 1000 + 1));
  }
  if (const auto huge = section.find("hugepages"))
    resources.huge_bytes = huge->size_bytes(kHugePages).value_or(0);
  resources.devices = read_device_requests(section);
  if (const auto time = section.find("time"); time && claimant == Claimant::step)
    resources.time = time->duration(kTime).value_or(resources.time);
  return resources;
}

Network read_network(const Value& value, Network fallback) {
  const auto chosen = value.choice({"host", "none"});
  if (!chosen) return fallback;
  return *chosen == 0 ? Network::host : Network::none;
}

std::vector<std::string> read_sandbox(const Value& value) {
  const Section section(value, {"require"}, "a map such as {require: [memory, seccomp]}");
  std::vector<std::string> guards;
  const auto require = section.find("require");
  if (!require) return guards;
  for (const Value& item : require->items("a list of guards")) {
    const auto chosen = item.choice(guard_names());
    if (!chosen) continue;
    const std::string& guard = guard_names()[*chosen];
    if (std::find(guards.begin(), guards.end(), guard) == guards.end()) guards.push_back(guard);
  }
  return guards;
}

int read_priority(const Value& value) {
  return static_cast<int>(value.integer(kPriority).value_or(0));
}

Json read_params(const Value& value) {
  if (!value.is_map()) {
    value.wrong_type("a map of parameters such as {lr: 0.1, layers: [64, 10]}");
    return Json::object();
  }
  Json params = read_param(value);
  static constexpr std::string_view kVariable = "LOAM_PARAMS=";
  if (params.dump().size() + kVariable.size() > kArgumentBytesMax)
    value.problem("all parameters together are longer than the " +
                  std::to_string(kArgumentBytesMax) +
                  " bytes that Linux allows in a variable; put them in a file");
  return params;
}

}  // namespace loam::spec
