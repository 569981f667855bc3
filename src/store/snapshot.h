// A project's snapshot on its way into the store. A child with the user's ids walks the folder and
// writes a stream; the node's side reads it as foreign bytes (Store::put_tree_from_snapshot).
// Stream format: docs/formats/snapshot.md. Left out: .git, what .gitignore and .loamignore name,
// the files of `data:` patterns, sockets, fifos, device nodes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace loam::store {

inline constexpr std::uint64_t kSnapshotFileBytesMax = 64u
                                                       << 20;  // a single file over this is refused

struct WalkOptions {
  std::vector<std::string> data_patterns;  // files of data: — left out
  std::vector<std::string> always_skip;    // such as an output folder lying in the project
};

// Runs with the user's own ids (openat2 RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS |
// RESOLVE_NO_SYMLINKS for folders, O_NONBLOCK, regular files only). Writes the stream to out_fd. A
// file over the limit is an error with the mend (data:, mounts: or .loamignore).
Result<void> walk_project(const std::string& folder, const WalkOptions& options, int out_fd);

// The fingerprint of one `data:` source, taken by the same child:
// {"mode":"stat","files":[{"path","size", "mtime_ns"[,"sha256"]}…],"digest":"…"}. full: whole
// content; sample: first and last 64 KiB of each file. At most 100,000 files. A pattern that
// matches nothing is not_found.
Result<Json> fingerprint_data(const std::string& folder, const std::string& pattern,
                              const std::string& mode);

// gitignore(5) rules, for tests and for the walk.
class IgnoreRules {
 public:
  void add(std::string_view text,
           const std::string& base);  // base: folder of the file, "" for the top
  bool ignores(const std::string& path, bool is_folder) const;

 private:
  struct Rule {
    std::string pattern;
    std::string base;
    bool negated = false;
    bool folder_only = false;
    bool anchored = false;
  };
  std::vector<Rule> rules_;
};

}  // namespace loam::store
