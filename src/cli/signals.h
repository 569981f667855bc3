// Signals as something to poll: while one lives, interrupt, termination, hang-up and window changes
// arrive on fd() instead of ending the program. A signal that the caller ignores (nohup) stays
// ignored.
#pragma once

#include <signal.h>

#include "base/fd.h"

namespace loam::cli {

class Signals {
 public:
  Signals();
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  int fd() const { return fd_.get(); }
  // The next signal's number, 0 where none waits.
  int next();

 private:
  sigset_t before_{};
  Fd fd_;
};

}  // namespace loam::cli
