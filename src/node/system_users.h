// This machine's users, as its name service knows them. That may be a directory on the network, which
// takes its time: what is asked for again and again is remembered for a minute.
// Threads: any; who must not wait asks from a worker.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace loam::node {

struct SystemUser {
  std::uint32_t uid = UINT32_MAX;
  std::uint32_t gid = UINT32_MAX;
  std::string name, home;
};

// Asks. not_found: nobody has this number. unavailable: the name service failed.
Result<SystemUser> look_up_user(std::uint32_t uid);
// Asks; the main group among them.
std::vector<std::uint32_t> look_up_groups(const SystemUser& user);

// As it was within the last minute; where the name service fails, as it was last.
Result<SystemUser> known_user(std::uint32_t uid);
std::string user_name(std::uint32_t uid);  // "uid-1001" where nobody has this number

}  // namespace loam::node
