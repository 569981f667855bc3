// Build steps (package scripts, pip, wheels) as the unprivileged build range: namespace 0 of a new
// user namespace mapped onto 65,536 ids that own nothing on the host (store-and-env.md,
// "Building").
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/process.h"
#include "base/result.h"

namespace loam::sandbox {

struct IdRange {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
};

struct BuildBind {
  std::string from;
  std::string to;  // below root where root is given, else an absolute path of the host's view
  bool writable = false;
};

struct BuildCommand {
  std::vector<std::string> argv;
  std::vector<std::pair<std::string, std::string>> environment;  // complete
  std::string directory = "/";
  IdRange uids;  // namespace 0… → these
  IdRange gids;
  std::string root;  // "" : the host's files read-only with `binds` on top; else: this folder (a
                     // tree of the store: overlaid, changes vanish) becomes /
  std::vector<BuildBind> binds;
  bool network = false;  // true: the host's network (resolving and downloading wheels only)
  std::vector<std::string> hidden;  // paths masked by an empty tmpfs (Loam's state, /root, /home)
  int standard_output = -1;         // descriptors of the caller, as SpawnOptions
  int standard_error = -1;
  std::uint64_t tmpfs_bytes = 0;  // 0: half of memory
};

// Makes namespaces user, mount, pid, ipc, uts and net; no_new_privs; a fresh /proc, /dev (bound
// nodes), /tmp (tmpfs); dies with the caller. Returns a handle whose end takes every process with
// it.
Result<Child> start_build(const BuildCommand& command);

// A folder that namespace 0 of the range may write: made 0700 and owned by range.first.
Result<void> give_folder(const std::string& path, const IdRange& uids, const IdRange& gids);

}  // namespace loam::sandbox
