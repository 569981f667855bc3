// A process that forks for its starter. Starting a program costs 0.5 to 1 ms of exec, linking and page faults (2 cores,
// 2026-11-25); a process that has all that behind it forks a child in a tenth of it. The server is exec'd once,
// before anything of a user's is in its memory, has one thread and keeps nothing of what it forks for.
//
//   starter ── arguments, descriptors ──▶ server ── clone3(CLONE_PARENT) ──▶ child: the starter's own, as if it had
//           ◀─────── pid or errno ───────                                    forked it: it waits for it and nobody else
//
// The server ends when its starter's end of the socket closes. Threads: fork() may be called from any.
#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace loam {

inline constexpr std::size_t kForkRequestBytesMax = 128u << 10;  // all arguments together
inline constexpr std::size_t kForkDescriptorsMax = 4;

class ForkServer {
 public:
  // argv: the program and what makes it serve_forks(); the socket's number and room for a title are added.
  // The program is the file that its path names now, also for a server that is started again after an upgrade has put
  // another in its place: starter and children speak one version.
  ForkServer(std::vector<std::string> argv, std::vector<std::string> environment);

  // Starts it now and not with the first request. Its threads end with the thread that starts it, and so do children
  // that ask for their parent's death signal (prctl(2)).
  Result<void> start();
  // Its children live on; the next request would start another.
  void stop();
  // The child has `descriptors` in this order. unavailable: the server could not be had, and nothing was forked.
  // Other errors where it died over this request: then there may be a child all the same.
  Result<Child> fork(const std::vector<std::string>& arguments, const std::vector<int>& descriptors);

 private:
  Result<void> start_locked();
  Result<Child> receive_child();

  std::string program() const;

  const std::vector<std::string> argv_, environment_;
  const Fd file_;  // argv_[0] as it was at our start; empty where it cannot be opened
  std::mutex mutex_;
  Child server_;
  Fd socket_;
};

struct ForkRequest {
  std::vector<std::string> arguments;
  std::vector<Fd> descriptors;  // O_CLOEXEC
};

// The server's side; `argv` as main got it. Returns the request in each child, and nothing in the server, once the
// starter is gone. Signals are at their defaults; standard input and output are /dev/null.
// Require: one thread. The child's command line shows the request's arguments (ps, /proc/PID/cmdline).
// `before_fork` runs in the server: what it makes there, each later child has.
Result<std::optional<ForkRequest>> serve_forks(int argument_count, char** argv,
                                               const std::function<void(const ForkRequest&)>& before_fork = {});

}  // namespace loam
