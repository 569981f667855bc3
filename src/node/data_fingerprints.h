// What a run's data is: a fingerprint of each source, taken with the rights of the project's reader.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "node/user_child.h"
#include "spec/project.h"
#include "store/store.h"

namespace loam::node {

// On a worker. {name: {digest, record, files?}}; `record` is in the store, `files` are the paths of a source in the
// project's top folder, of which the job is given each by itself.
Result<Json> take_fingerprints(UserHelpers& helpers, const UserIds& reader, store::Store& store,
                               const std::string& folder,
                               const std::vector<spec::DataSource>& data);

}  // namespace loam::node
