#include "base/open_beneath.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/text.h"

namespace loam {

Result<Fd> open_beneath(int folder, const std::string& path, int flags, Links links) {
  open_how how{};
  // openat2 refuses flags that mean nothing beside O_PATH.
  if ((flags & O_PATH) == 0) flags |= O_NONBLOCK | O_NOCTTY;
  how.flags = static_cast<unsigned>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  if (links == Links::refuse) how.resolve |= RESOLVE_NO_SYMLINKS;
  for (;;) {
    const long fd = ::syscall(SYS_openat2, folder, path.c_str(), &how, sizeof how);
    if (fd >= 0) return Fd(static_cast<int>(fd));
    // EAGAIN: a rename raced with the resolution of "..".
    if (errno == EINTR || errno == EAGAIN) continue;
    const int error = errno;
    auto failed = fail_errno(printable(path), error);
    errno = error;
    return failed;
  }
}

}  // namespace loam
