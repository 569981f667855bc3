// Tasks one after another in one sandbox. Each is a child of pid 1, with the sandbox's argv and
// variables of its own; when it ends, pid 1 kills whatever it left, reaps all, and says so: the
// next one begins in a sandbox without a process.
//
//   keeper ── task: JSON, output ──▶ pid 1 ── fork ──▶ process … its end ─ kill(-1) ─ all reaped ──
//   'd' ──▶
//
// Trust: the keeper's packets are Loam's own. pid 1 never waits for anything of the job.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "sandbox/init.h"

namespace loam::sandbox {

using Variables = std::vector<std::pair<std::string, std::string>>;

// ---- keeper ----
// The reading end of its output. `variables` go before the Spec's.
Result<Fd> send_task(int control, const Ids& ids, const Variables& variables);

// ---- pid 1 ----
class LaneTask {
 public:
  explicit LaneTask(const InitParts& parts) : parts_(parts) {}
  void start(std::string_view bytes, const std::vector<Fd>& descriptors);
  // Whatever has ended by now.
  void reap();
  pid_t running() const { return over_ ? 0 : pid_; }  // 0: none

 private:
  void tell(char kind) const;
  void clear();
  const InitParts& parts_;
  pid_t pid_ = 0;
  bool over_ = false;    // its own process has ended
  bool waited_ = false;  // 'w' is said
  std::int32_t status_ = 0;
  std::int64_t largest_bytes_ = 0, cpu_ns_ = 0;
};

}  // namespace loam::sandbox
