// The patterns of loam.yaml are base/glob.h's, which the store's snapshots use as well: what is
// data here is left out there.
#include "base/glob.h"

#include "spec/project.h"

namespace loam::spec {

bool matches_pattern(std::string_view pattern, std::string_view path) {
  return Glob(pattern).matches(path);
}

std::string pattern_folder(std::string_view pattern) { return Glob(pattern).folder(); }

}  // namespace loam::spec
