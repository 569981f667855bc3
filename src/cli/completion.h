// Completion scripts of the shells, from the table of verbs.
#pragma once

#include <string>
#include <vector>

#include "cli/verb.h"

namespace loam::cli {

std::string bash_completion(const std::vector<Verb>& verbs);
std::string zsh_completion(const std::vector<Verb>& verbs);
std::string fish_completion(const std::vector<Verb>& verbs);

}  // namespace loam::cli
