// A pushed project's folder on the box: what of a manifest it lacks, and how it becomes that
// manifest.
#pragma once

#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "boxes/manifest.h"

namespace loam::boxes {

class ProjectFolder {
 public:
  // `path` is made where it is not there.
  static Result<ProjectFolder> open(const std::string& path);

  // Numbers of the manifest's files whose content is not here already.
  Result<std::vector<std::size_t>> lacking(const Manifest& manifest) const;
  // Removes what the manifest does not name, makes its folders and links, moves the wanted files
  // (named by their numbers) here from `incoming`. May be cut off anywhere and begun again.
  Result<void> become(const Manifest& manifest, const std::vector<std::size_t>& wanted,
                      const Fd& incoming);

 private:
  ProjectFolder(std::string path, Fd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  bool has(const ManifestEntry& entry) const;
  Result<void> remove_others(const Manifest& manifest, const Fd& folder, const std::string& path);
  Result<void> make(const ManifestEntry& entry);
  Result<void> set_mode(const ManifestEntry& entry);
  Result<Fd> parent_of(const std::string& path) const;

  std::string path_;
  Fd fd_;
};

}  // namespace loam::boxes
