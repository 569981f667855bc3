// A project's snapshot on its way into the store. A child with the user's ids walks the folder and
// writes a stream; the node's side reads it as foreign bytes (Store::put_tree_from_snapshot).
//
//   folder ── walk_project (user's ids) ── frames ──▶ pipe ──▶ take_snapshot (node) ──▶ TreeStage
//
// Stream format: docs/formats/snapshot.md. Left out: .git, what .gitignore and .loamignore name,
// the files of `data:` patterns, sockets, fifos, device nodes.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/glob.h"
#include "base/json.h"
#include "base/result.h"

namespace loam::store {

inline constexpr std::uint64_t kSnapshotFileBytesMax = 64u
                                                       << 20;  // a single file over this is refused
inline constexpr std::uint64_t kSnapshotBytesMax = std::uint64_t{8} << 30;  // all files
inline constexpr std::size_t kIgnoreFileBytesMax = 1u << 20;
inline constexpr std::size_t kFingerprintFilesMax = 100'000;

struct WalkOptions {
  std::vector<std::string> data_patterns;  // files of data: — left out
  std::vector<std::string> always_skip;    // paths, such as an output folder lying in the project
  // A model's folder: neither ignore files nor limits of size; what is left out is named in the stream; one
  // without any file, or with a link out of the folder (which would lead nowhere in a sandbox), is an error.
  bool model = false;
};

// What a walk over a project meets, a folder before what is in it. Paths are relative; "" is the project itself.
class ProjectVisitor {
 public:
  virtual ~ProjectVisitor() = default;
  virtual Result<void> folder(const std::string& path, std::uint32_t mode) = 0;
  virtual Result<void> symlink(const std::string& path, std::string_view target) = 0;
  // A regular file, open at its start, with what fstat(2) said of it.
  virtual Result<void> file(const std::string& path, int fd, const struct stat& status) = 0;
  virtual Result<void> left_out(const std::string& path) = 0;  // of a model alone
};
// Who has the right to read the folder calls it; walk_project's rules and limits.
Result<void> visit_project(const std::string& folder, const WalkOptions& options, ProjectVisitor& visitor);

// Runs with the user's own ids (openat2 RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS |
// RESOLVE_NO_SYMLINKS, O_NONBLOCK, regular files only). Writes the stream to out_fd. A file over
// the limit is an error with the mend (data:, mounts: or .loamignore). An error is also written
// into the stream, for its reader.
Result<void> walk_project(const std::string& folder, const WalkOptions& options, int out_fd);

// The fingerprint of one `data:` source, taken by the same child:
// {"mode":"stat","files":[{"path","size", "mtime_ns"[,"sha256"]}…],"digest":"…"}; mtime_ns is a
// string, since it is over 2^53. full: SHA-256 of the whole content; sample: of the first and last
// 64 KiB of each file; their digest does not cover the mtime, so that a copy of the same data is
// the same data. At most 100,000 files, found in order of their paths. A pattern that matches
// nothing is not_found; a link out of the folder is invalid.
Result<Json> fingerprint_data(const std::string& folder, const std::string& pattern,
                              const std::string& mode);

// gitignore(5) rules, for tests and for the walk. Later rules win, so a folder's file is added
// after those of the folders above it.
class IgnoreRules {
 public:
  void add(std::string_view text,
           const std::string& base);  // base: folder of the file, "" for the top
  // The path, or a folder above it: what lies in an ignored folder cannot be re-included.
  bool ignores(const std::string& path, bool is_folder) const;
  // The path alone, for a walk that has not entered ignored folders.
  bool ignores_entry(const std::string& path, bool is_folder) const;
  // For a walk that leaves a folder: forgets the rules added since size() was `count`.
  std::size_t size() const { return rules_.size(); }
  void shrink(std::size_t count) {
    rules_.erase(rules_.begin() + static_cast<std::ptrdiff_t>(count), rules_.end());
  }

 private:
  struct Rule {
    Glob pattern;
    std::string base;
    bool negated = false;
    bool folder_only = false;
    bool anchored = false;  // matches the path from base on; else the name alone
  };
  void add_line(std::string_view line, const std::string& base);

  std::vector<Rule> rules_;
};

}  // namespace loam::store
