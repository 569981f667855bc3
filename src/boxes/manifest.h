// What a project consists of, as a push tells the box: folders, links and files in order of their
// paths, a folder before what is in it (docs/formats/bridge.md). Of a project's file the content's
// digest counts; of data, which may be large, size and time of its last change, as for
// `fingerprint: stat`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace loam::boxes {

inline constexpr std::size_t kManifestEntriesMax = 500'000;

struct ManifestEntry {
  enum class Type { folder, symlink, file };
  Type type = Type::file;
  std::string path;  // "" is the project itself
  std::uint32_t mode = 0;
  std::string target;  // of a link
  std::uint64_t size_bytes = 0;
  std::int64_t mtime_ns = 0;
  std::string digest;  // hex; "": data
};
using Manifest = std::vector<ManifestEntry>;

Json to_json(const Manifest& manifest);
// From foreign bytes: every path is checked, has its folder before it, and comes once.
Result<Manifest> read_manifest(const Json& entries);

struct ProjectFiles {
  std::vector<std::string> data;  // patterns of `data:`
  std::vector<std::string> skip;  // paths that jobs have of their own
  bool model = false;             // a model's folder: all of it
};
// What a submission from here would take, and the files of `data:`; reads every file but data.
Result<Manifest> manifest_of(const std::string& folder, const ProjectFiles& files);

}  // namespace loam::boxes
