// The project's files as the reader of loam.yaml asks for them, from the snapshot.
#include <algorithm>

#include "base/files.h"
#include "base/glob.h"
#include "base/text.h"
#include "node/findings.h"
#include "node/runs_impl.h"

namespace loam::node {

bool SnapshotFolder::has_file(const std::string& relative) const {
  return std::any_of(listing_.begin(), listing_.end(), [&](const auto& entry) {
    return entry.path == relative && entry.type == store::ListingEntry::Type::file;
  });
}

std::size_t SnapshotFolder::matches(const std::string& pattern, std::size_t) const {
  if (any_match_ || matched_.contains(pattern)) return 1;
  const Glob glob(pattern);
  return std::any_of(listing_.begin(), listing_.end(), [&](const auto& entry) {
    return entry.type != store::ListingEntry::Type::folder && glob.matches(entry.path);
  }) ? 1 : 0;
}

std::vector<std::string> SnapshotFolder::files_beside(const std::string& relative) const {
  const std::string folder = relative.substr(0, relative.rfind('/') + 1);
  std::vector<std::string> names;
  for (const auto& entry : listing_)
    if (entry.type == store::ListingEntry::Type::file && entry.path.starts_with(folder) &&
        entry.path.find('/', folder.size()) == std::string::npos)
      names.push_back(entry.path.substr(folder.size()));
  return names;
}

Result<std::string> SnapshotFolder::read(const std::string& relative) const {
  if (!has_file(relative))
    return fail(ErrorCode::not_found, printable(relative) + ": not in the project's snapshot");
  return read_foreign(tree_path_, relative, 1u << 20);
}

}  // namespace loam::node
