// The mounts of a job's sandbox: prepared with the builder's rights, put together in the new mount
// namespace.
#pragma once

#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "sandbox/mount.h"
#include "sandbox/sandbox.h"

namespace loam::sandbox {

// Detached mounts, taken before the new namespace: from there no path of the host is walked any
// more.
struct Sources {
  struct Bound {
    Fd tree;
    TargetKind kind = TargetKind::folder;
    std::vector<std::string> hidden;  // below it, to be covered
  };
  bool userxattr = false;  // overlays of a user namespace keep their marks in user.*
  Fd root_tree, scratch, project_tree, project_upper;
  std::vector<Bound> binds;  // as Spec::binds
};
// swapped_ids: Shared's.
Result<Sources> open_sources(const Spec& spec, int swapped_ids);

// In the new namespaces, still with the builder's rights: mounts everything and moves into it.
Result<void> mount_stage(const Spec& spec, const Sources& sources);

}  // namespace loam::sandbox
