// How this host and this user reach a package index: pip.conf, netrc, CA bundle, proxies, folders
// of wheels. They enter a build as copies that only its ids read, and vanish with its folder.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "env/env.h"

namespace loam::env {

struct PipSettings {
  std::vector<std::pair<std::string, std::string>> environment;
  std::vector<std::string> folders;  // absolute; the scripts bind them into the tree (LOAM_FOLDERS)
};

// Fills FOLDER/io, owned by the build's ids.
Result<PipSettings> lay_out_pip_settings(const Context& context, const std::string& folder);

// Values of `key` (in any section) of a pip.conf; continuation lines are values of their own.
std::vector<std::string> pip_conf_values(std::string_view text, std::string_view key);

}  // namespace loam::env
