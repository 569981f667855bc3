// The seccomp guard: finished programs, compiled at build time (filter/generate_filter.cc).
#pragma once

#include "base/result.h"

namespace loam::sandbox {

struct FilterOptions {
  bool refuse_set_id = false;  // a folder of root is writable through an idmapped mount
};

// Sets no_new_privs and loads the programs for this thread and all that come of it. For a fresh
// single-threaded child.
Result<void> load_filter(const FilterOptions& options);

}  // namespace loam::sandbox
