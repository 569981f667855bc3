#include "sandbox/terminal.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <span>
#include <string_view>

#include "base/packet.h"

namespace loam::sandbox {

Result<Fd> open_terminal(int control, const InitPacket& packet) {
  Fd master(::open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!master) return fail_errno("open a terminal");
  int unlock = 0;
  if (::ioctl(master.get(), TIOCSPTLCK, &unlock) != 0) return fail_errno("unlock the terminal");
  Fd slave(::ioctl(master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!slave) return fail_errno("open the terminal's other end");
  const std::string_view bytes(reinterpret_cast<const char*>(&packet), sizeof packet);
  const int fd = master.get();
  if (send_packet(control, bytes, std::span(&fd, 1)) < 0)
    return fail_errno("hand over the terminal");
  return slave;
}

}  // namespace loam::sandbox
