#include "boxes/pump.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace loam::boxes {

Result<void> pump_out(int fd, std::string& out) {
  std::size_t sent = 0;
  while (sent < out.size()) {
    const ssize_t count = ::write(fd, out.data() + sent, out.size() - sent);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    if (count < 0) return fail_errno("writing to the ssh session");
    sent += static_cast<std::size_t>(count);
  }
  out.erase(0, sent);
  return {};
}

Result<bool> pump_in(int fd, const std::function<Result<void>(std::string_view)>& take) {
  std::array<char, 64 * 1024> buffer;
  const ssize_t count = ::read(fd, buffer.data(), buffer.size());
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (count < 0) return fail_errno("reading from the ssh session");
  if (count == 0) return false;
  LOAM_CHECK(take({buffer.data(), static_cast<std::size_t>(count)}));
  return true;
}

Result<void> set_nonblocking(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) return fail_errno("O_NONBLOCK");
  return {};
}

}  // namespace loam::boxes
