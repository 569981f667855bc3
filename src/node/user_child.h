// Children of our own program with a user's ids, so that the node never resolves a user's path with its own rights
// (sandbox.md, "Paths of users"). One for each call, forked by a helper process of the node's (base/fork_server.h) that
// takes the user's ids before it looks at anything of his. Blocks: call from a worker.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/fork_server.h"
#include "base/result.h"

namespace loam::node {

struct UserIds {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> groups;
};

// Ends a call whose result nobody wants any more, from any thread, also before its child is there.
class CallStop {
 public:
  void stop();
  bool stopped() const;

 private:
  friend class UserHelpers;
  void watch(const Child& child);

  mutable std::mutex mutex_;
  bool stopped_ = false;
  Fd child_;  // its pidfd
};

class UserHelpers {
 public:
  UserHelpers();
  // Now and not with the first call. From the main thread: the children end with the thread that starts them.
  Result<void> start() { return server_.start(); }
  void stop() { server_.stop(); }

  // `consume` reads the child's standard output; the child's own error, where it has one, wins over
  // consume's. `stop`: the child is killed (cancelled).
  Result<void> stream(const UserIds& user, const std::vector<std::string>& arguments, std::string_view input,
                      const std::function<Result<void>(int output_fd)>& consume, CallStop* stop = nullptr);
  // The child's whole standard output (at most 256 MiB).
  Result<std::string> call(const UserIds& user, const std::vector<std::string>& arguments,
                           std::string_view input = {});

 private:
  ForkServer server_;
};

// "1000:1000:4,27": how the ids travel to the child.
std::string ids_text(const UserIds& user);
Result<UserIds> ids_from(std::string_view text);

}  // namespace loam::node
