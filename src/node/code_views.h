// What of a snapshot is code (`code:`, staleness.h), as a digest and as the paths that changed: asked
// of every step each time its run is considered, and looked at once for each set of patterns. Trees do
// not change, so that what is remembered stays true.
//
//   worker: look_at(all sets of a project) ─ one listing ─▶ digests ◀─ loop: digest(one step's)
//
// Threads: any. On the loop 20,000 files cost 35 ms a set (2 cores, 28 November 2026): therefore
// look_at() before.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "spec/project.h"
#include "store/store.h"

namespace loam::node {

class CodeViews {
 public:
  using Patterns = std::vector<std::string>;  // none: all files
  // Empty where there is no such tree.
  using Listing = std::function<std::vector<store::ListingEntry>(const std::string& tree)>;
  explicit CodeViews(Listing listing) : listing_(std::move(listing)) {}

  struct Code {
    std::string tree;
    std::string file;  // the project's, which is no code
  };
  // Of all its steps.
  void look_at(const Code& code, const spec::Project& project);
  std::string digest(const Code& code, const Patterns& patterns);
  // Paths of code created, changed or removed since the tree `before`, sorted.
  std::vector<std::string> changed(const std::string& before, const Code& now,
                                   const Patterns& patterns);

 private:
  using Key = std::pair<std::string, Patterns>;
  struct Difference {
    std::string before, now, file;
    std::vector<std::string> paths;
  };
  void look(const Code& code, const std::vector<Patterns>& sets);
  std::optional<std::string> known(const Key& key);

  Listing listing_;
  Mutex mutex_;
  std::map<Key, std::string> digests_ LOAM_GUARDED_BY(mutex_);  // of a tree and file
  std::deque<Difference> differences_ LOAM_GUARDED_BY(mutex_);  // the newest first
};

}  // namespace loam::node
