// Whether a step must run again (DESIGN, "What is repeated"). A key holds all that counts, as
// resolved; two keys are compared part by part, so that the answer can be said.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/sha256.h"
#include "spec/project.h"
#include "store/store.h"

namespace loam::node {

struct StepInputs {
  std::string env;                              // env digest
  std::map<std::string, std::string> data;      // source → fingerprint's digest
  std::string snapshot;                         // digest of what counts of it
  std::map<std::string, std::string> upstream;  // step in `after` → its output's tree
};

// {"command","env","mounts","output","params","vars","data","snapshot","upstream"}; canonical.
Json step_key(const spec::Project& project, const spec::Step& step, const StepInputs& inputs);

// "params.lr", "snapshot", "data.digits", …; empty: nothing changed.
std::vector<std::string> changes(const Json& before, const Json& now);

// What of a snapshot counts: files and links that match `patterns` (all where empty), never
// loam.yaml (under the name it has) nor loam.lock.
std::vector<store::ListingEntry> code_entries(const std::vector<store::ListingEntry>& listing,
                                              const std::vector<std::string>& patterns,
                                              const std::string& file_name);
// Of these paths, sorted as they are, those that match `patterns` (all where empty).
std::vector<std::string> code_paths(const std::vector<std::string>& paths,
                                    const std::vector<std::string>& patterns);
// Paths created, changed or removed between two views, sorted.
std::vector<std::string> changed_paths(const std::vector<store::ListingEntry>& before,
                                       const std::vector<store::ListingEntry>& now);
// "snapshot" becomes "snapshot: train.py" for each path, at most a few.
std::vector<std::string> with_paths(std::vector<std::string> changes,
                                    const std::vector<std::string>& paths);

}  // namespace loam::node
