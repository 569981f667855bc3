// The folders that an attempt works in, and its user's home: made by the node, owned as their content
// is to be trusted.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/result.h"
#include "node/supervisor.h"

namespace loam::node {

std::string work_name(JobId job, int number);  // "12-1"
// Makes project/, run/, output/ for the job's user; what an attempt that was never recorded left
// goes first.
Result<void> make_work_folders(const std::string& work, std::uint32_t uid, std::uint32_t gid);
// STATE/homes/UID/PROJECT.
Result<void> make_home(const std::string& homes, std::uint32_t uid, std::uint32_t gid,
                       const std::string& project);
// An existing or new folder that belongs to these ids.
Result<void> make_owned_folder(const std::string& path, std::uint32_t uid, std::uint32_t gid,
                               mode_t mode = 0700);

}  // namespace loam::node
