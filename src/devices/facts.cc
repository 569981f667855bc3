// The host record's content. A fact that cannot be read is null, never left out: a reader sees that
// it was looked for. Nothing here changes between two looks at an unchanged machine (no boot id, no
// free memory).
#include <sys/utsname.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "base/files.h"
#include "base/or_null.h"
#include "base/sha256.h"
#include "base/text.h"
#include "devices/host.h"
#include "devices/topology.h"

namespace loam::devices {
namespace {

Json line_of(const std::string& path) {
  const auto text = read_file(path);
  if (!text) return nullptr;
  return std::string(trim(*text));
}

Json digest_of(const std::string& path) {
  const auto text = read_file(path);
  if (!text) return nullptr;
  return sha256_of(*text).hex();
}

// "key : value" lines as in /proc/cpuinfo and /proc/meminfo: the first one of that key.
std::string value_of(std::string_view text, std::string_view key) {
  for (const std::string& line : split(text, '\n')) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos || trim(std::string_view(line).substr(0, colon)) != key)
      continue;
    return std::string(trim(std::string_view(line).substr(colon + 1)));
  }
  return "";
}

// The bytes as they lie there: /proc/config.gz compressed, /boot/config-RELEASE plain.
Json kernel_config(const std::string& release) {
  for (const std::string& path : {std::string("/proc/config.gz"), "/boot/config-" + release})
    if (Json digest = digest_of(path); !digest.is_null())
      return Json::object({{"path", path}, {"sha256", digest}});
  return nullptr;
}

Json kernel_facts() {
  utsname names{};
  ::uname(&names);
  return Json::object(
      {{"name", names.sysname},
       {"release", names.release},
       {"version", names.version},
       {"machine", names.machine},
       {"config", kernel_config(names.release)},
       {"command_line_sha256", digest_of("/proc/cmdline")},
       {"clock_source",
        line_of("/sys/devices/system/clocksource/clocksource0/current_clocksource")},
       {"lsm", line_of("/sys/kernel/security/lsm")},
       {"ptrace_scope", line_of("/proc/sys/kernel/yama/ptrace_scope")}});
}

Json distribution_facts() {
  auto text = read_file("/etc/os-release");
  if (!text) text = read_file("/usr/lib/os-release");
  if (!text) return nullptr;
  const auto field = [&](std::string_view key) -> Json {
    for (const std::string& line : split(*text, '\n')) {
      if (!line.starts_with(std::string(key) + "=")) continue;
      std::string value = line.substr(key.size() + 1);
      std::erase(value, '"');
      if (is_utf8(value)) return value;
    }
    return nullptr;
  };
  return Json::object(
      {{"id", field("ID")}, {"version", field("VERSION_ID")}, {"name", field("PRETTY_NAME")}});
}

Json cpu_facts() {
  const auto text = read_file("/proc/cpuinfo");
  const std::string_view info = text ? std::string_view(*text) : std::string_view();
  std::string flags = value_of(info, "flags");
  if (flags.empty()) flags = value_of(info, "Features");  // arm64
  auto words = split(flags, ' ');
  std::sort(words.begin(), words.end());
  std::string model = value_of(info, "model name");
  if (model.empty() && !value_of(info, "CPU implementer").empty())
    model =
        "implementer " + value_of(info, "CPU implementer") + " part " + value_of(info, "CPU part");
  const bool virtual_machine = std::find(words.begin(), words.end(), "hypervisor") != words.end();
  return Json::object(
      {{"model", text_or_null(model)},
       {"microcode", text_or_null(value_of(info, "microcode"))},
       {"flags_sha256", flags.empty() ? Json() : Json(sha256_of(join(words, " ")).hex())},
       {"virtual", virtual_machine},
       {"topology", read_topology()}});
}

Json memory_facts() {
  const auto text = read_file("/proc/meminfo");
  const auto bytes = [&](std::string_view key) -> Json {
    const std::string value = text ? value_of(*text, key) : "";
    if (value.empty()) return nullptr;
    return std::strtoll(value.c_str(), nullptr, 10) * 1024;
  };
  return Json::object({{"total_bytes", bytes("MemTotal")}, {"swap_bytes", bytes("SwapTotal")}});
}

// Sorted by name. srcversion is the digest that the kernel's build gave the module's sources.
Json module_facts() {
  const auto text = read_file("/proc/modules");
  if (!text) return nullptr;
  std::vector<std::string> names;
  for (const std::string& line : split(*text, '\n'))
    if (!line.empty()) names.push_back(line.substr(0, line.find(' ')));
  std::sort(names.begin(), names.end());
  Json list = Json::array();
  for (const std::string& name : names)
    list.push(Json::object({{"name", name},
                            {"version", line_of("/sys/module/" + name + "/version")},
                            {"srcversion", line_of("/sys/module/" + name + "/srcversion")}}));
  const std::string digest = sha256_of(list.dump()).hex();
  return Json::object({{"loaded", list}, {"sha256", digest}});
}

Json cgroup_mode() {
  const auto text = read_file("/proc/self/mountinfo");
  if (!text) return nullptr;
  const bool v1 = text->find(" - cgroup ") != std::string::npos;
  const bool v2 = text->find(" - cgroup2 ") != std::string::npos;
  return v1 && v2 ? "hybrid" : v2 ? "v2" : v1 ? "v1" : "none";
}

}  // namespace

Json read_host_facts() {
  return Json::object({{"kernel", kernel_facts()},
                       {"distribution", distribution_facts()},
                       {"cpu", cpu_facts()},
                       {"memory", memory_facts()},
                       {"modules", module_facts()},
                       {"cgroup_mode", cgroup_mode()}});
}

}  // namespace loam::devices
