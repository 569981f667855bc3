// The Debian tree of a section: its .debs, nothing else, no network, as a tar written inside the
// build.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "env/apt.h"
#include "env/env.h"

namespace loam::env {

// Puts FOLDER/base.tar there, for a folder that prepare_folder() has prepared. The newest few are
// kept in STATE/builds under a name of the debs and the tools, so that resolving wheels and the
// build after it, or another list of wheels, need mmdebstrap once.
Result<void> provide_base_tar(const Context& context, const std::string& folder,
                              const std::string& suite, const std::vector<Deb>& debs);

// The .debs of a section that the store lacks, by exact version from the mirror.
Result<void> fetch_missing_debs(const Context& context, const std::string& suite,
                                const std::vector<Deb>& debs);

}  // namespace loam::env
