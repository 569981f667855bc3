// From the sandbox's builder to the job's user: ids changed, every capability gone, and paths of
// users opened with the user's own rights.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace loam::sandbox {

struct Ids {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> groups;
};

// Groups, gid, uid; only what the opener of a user's path needs. Irreversible.
Result<void> become_user(const Ids& ids);
// The same, with bounding, ambient and all other capability sets empty afterwards.
Result<void> drop_to_user(const Ids& ids);

struct UserPath {
  std::string path;
};
// One descriptor (O_PATH) for each, opened by a child with the user's ids and without magic links:
// root never walks a path that a user can change. The error names the first path that the user may
// not open.
Result<std::vector<Fd>> open_as_user(const Ids& ids, const std::vector<UserPath>& paths);

}  // namespace loam::sandbox
