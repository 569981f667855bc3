#include "engines/service_manager.h"

#include <linux/magic.h>
#include <sys/statfs.h>

#include <cstdlib>

#include "base/files.h"
#include "base/text.h"

namespace loam::engines {
namespace {

constexpr const char* kFolders[] = {"LOAM_STATE_DIR", "LOAM_RUNTIME_DIR"};

// The unit's node is the one that this environment means.
bool same_folders(const std::string& unit, const Lookup& environment) {
  for (const char* name : kFolders) {
    const auto value = environment(name);
    const bool there =
        value ? unit.find(systemd_quoted(std::string(name) + "=" + *value)) != std::string::npos
              : unit.find(std::string("\"") + name + "=") == std::string::npos;
    if (!there) return false;
  }
  return true;
}

std::string own_v2_group() {
  const auto text = read_file("/proc/self/cgroup");
  for (const std::string& line : split(text ? *text : "", '\n'))
    if (line.starts_with("0::")) return line.substr(3);
  return "";
}

}  // namespace

std::optional<std::string> from_environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? std::optional<std::string>(value) : std::nullopt;
}

std::string unit_path(unsigned uid, const Lookup& environment) {
  if (uid == 0) return "/etc/systemd/system/loam.service";
  const auto config = environment("XDG_CONFIG_HOME");
  return config.value_or(environment("HOME").value_or("") + "/.config") +
         "/systemd/user/loam.service";
}

bool systemd_runs(unsigned uid, const Lookup& environment) {
  if (!path_exists("/run/systemd/system")) return false;
  if (uid == 0) return true;
  const auto runtime = environment("XDG_RUNTIME_DIR");
  return runtime && path_exists(*runtime + "/systemd/private");
}

StartFacts read_start_facts(unsigned uid, const Lookup& environment) {
  StartFacts facts;
  facts.systemd = systemd_runs(uid, environment);
  if (!facts.systemd) return facts;
  if (auto unit = read_file(unit_path(uid, environment))) facts.unit = std::move(*unit);
  struct statfs status {};
  facts.unified = ::statfs("/sys/fs/cgroup", &status) == 0 && status.f_type == CGROUP2_SUPER_MAGIC;
  facts.own_group = own_v2_group();
  return facts;
}

std::vector<std::string> start_command(const std::string& program, unsigned uid,
                                       const Lookup& environment, const StartFacts& facts) {
  if (facts.systemd && !facts.unit.empty() && same_folders(facts.unit, environment)) {
    if (uid == 0) return {"systemctl", "start", "loam.service"};
    return {"systemctl", "--user", "start", "loam.service"};
  }
  std::vector<std::string> plain{program, "node", "run", "--daemon"};
  const std::string users = "/user@" + std::to_string(uid) + ".service";
  if (uid == 0 || !facts.systemd || !facts.unified ||
      facts.own_group.find(users) != std::string::npos)
    return plain;
  plain.insert(plain.begin(), {"systemd-run", "--user", "--scope", "--quiet", "--collect",
                               "--description=Loam node", "--property=Delegate=yes", "--"});
  return plain;
}

std::string systemd_quoted(const std::string& word) {
  std::string text = "\"";
  for (const char c : word) {
    if (c == '"' || c == '\\') text += '\\';
    if (c == '%') text += c;
    text += c;
  }
  return text + "\"";
}

}  // namespace loam::engines
