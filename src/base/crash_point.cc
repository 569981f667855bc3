#include "base/crash_point.h"

#ifdef LOAM_CRASH_POINTS
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <string_view>

namespace loam {

// The variable is inherited by the node's shims: names begin with the process (node., shim.).
void crash_point(const char* name) {
  static const char* const wanted = ::getenv("LOAM_CRASH_AT");
  if (wanted == nullptr) return;
  static std::atomic<int> passages{0};
  std::string_view want = wanted;
  int which = 1;
  if (const auto colon = want.find(':'); colon != std::string_view::npos) {
    which = std::atoi(std::string(want.substr(colon + 1)).c_str());
    want = want.substr(0, colon);
  }
  if (want == name && ++passages == which) ::kill(::getpid(), SIGKILL);
}

}  // namespace loam
#endif
