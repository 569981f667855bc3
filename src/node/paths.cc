#include "node/paths.h"

#include <pwd.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace loam::node {
namespace {

constexpr int kLinksMax = 40;  // as the kernel's

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  // A relative path would mean another folder after the daemon's chdir.
  return value != nullptr && value[0] == '/' ? value : "";
}

std::string home_folder() {
  if (std::string home = variable("HOME"); !home.empty()) return home;
  const passwd* entry = ::getpwuid(::getuid());
  return entry != nullptr && entry->pw_dir != nullptr ? entry->pw_dir : "/";
}

// Without the links that lead there, for below the state nothing is opened through one (SQLite and the sandbox
// refuse them). A link to a folder that is still to be made is one to it.
std::string resolved(std::string path) {
  namespace fs = std::filesystem;
  std::error_code failed;
  for (int links = 0; links < kLinksMax; ++links) {
    const fs::path real = fs::weakly_canonical(path, failed);
    if (failed) return path;
    if (!fs::is_symlink(real, failed)) return (real.has_filename() ? real : real.parent_path()).string();
    path = (real.parent_path() / fs::read_symlink(real, failed)).string();
  }
  return path;
}

std::string wanted_state_folder(bool root) {
  if (std::string folder = variable("LOAM_STATE_DIR"); !folder.empty()) return folder;
  if (root) return kSystemState;
  if (std::string folder = variable("XDG_STATE_HOME"); !folder.empty()) return folder + "/loam";
  return home_folder() + "/.local/state/loam";
}

std::string runtime_folder(bool root, const std::string& state) {
  if (std::string folder = variable("LOAM_RUNTIME_DIR"); !folder.empty()) return folder;
  if (root) return "/run/loam";
  if (std::string folder = variable("XDG_RUNTIME_DIR"); !folder.empty()) return folder + "/loam";
  return state + "/run";
}

std::string config_file(bool root) {
  if (root) return "/etc/loam/node.yaml";
  if (std::string folder = variable("XDG_CONFIG_HOME"); !folder.empty())
    return folder + "/loam/node.yaml";
  return home_folder() + "/.config/loam/node.yaml";
}

}  // namespace

bool is_system_state(const std::string& state) { return state == resolved(kSystemState); }

std::vector<std::string> environment_of_helpers() {
  std::vector<std::string> chosen;
  for (char** variable = environ; *variable != nullptr; ++variable)
    for (const char* prefix :
         {"PATH=", "LOAM_", "ASAN_OPTIONS=", "UBSAN_OPTIONS=", "TSAN_OPTIONS="})
      if (std::strncmp(*variable, prefix, std::strlen(prefix)) == 0) chosen.emplace_back(*variable);
  return chosen;
}

Paths paths_for(bool root) {
  Paths paths;
  paths.state = resolved(wanted_state_folder(root));
  paths.runtime = runtime_folder(root, paths.state);
  paths.socket = paths.runtime + "/node.sock";
  paths.database = paths.state + "/node.db";
  paths.store = paths.state + "/store";
  paths.attempts = paths.state + "/attempts";
  paths.builds = paths.state + "/builds";
  paths.outputs = paths.state + "/outputs";
  paths.checkpoints = paths.state + "/checkpoints";
  paths.homes = paths.state + "/homes";
  paths.endpoints = paths.state + "/endpoints";
  paths.secrets = paths.state + "/secrets";
  paths.log = paths.state + "/node.log";
  paths.config = variable("LOAM_NODE_CONFIG");
  paths.config_named = !paths.config.empty();
  if (!paths.config_named) paths.config = config_file(root);
  return paths;
}

}  // namespace loam::node
