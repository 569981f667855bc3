// The seccomp guard: finished programs, compiled at build time (filter/generate_filter.cc).
#pragma once

#include <linux/filter.h>

#include <span>

#include "base/result.h"

namespace loam::sandbox {

struct FilterOptions {
  bool refuse_set_id = false;  // a folder of root is writable through an idmapped mount
};

// Sets no_new_privs and loads the programs for this thread and all that come of it. For a fresh
// single-threaded child.
Result<void> load_filter(const FilterOptions& options);

// The finished programs, for tests that ask them what this machine's kernel would answer by itself.
std::span<const sock_filter> job_program();
std::span<const sock_filter> set_id_program();

}  // namespace loam::sandbox
