// Runs our own program with a user's ids, so that the node never resolves a user's path with its
// own rights (sandbox.md, "Paths of users"). Blocks: call from a worker.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace loam::node {

struct UserIds {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> groups;
};

// `consume` reads the child's standard output; the child's own error, where it has one, wins over
// consume's.
Result<void> stream_from_user(const UserIds& user, const std::vector<std::string>& arguments,
                              std::string_view input,
                              const std::function<Result<void>(int output_fd)>& consume);
// The child's whole standard output (at most 256 MiB).
Result<std::string> call_as_user(const UserIds& user, const std::vector<std::string>& arguments,
                                 std::string_view input = {});

}  // namespace loam::node
