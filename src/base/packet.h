// One packet of a Unix socket and the descriptors that travel with it (unix(7), SCM_RIGHTS).
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "base/fd.h"

namespace loam {

inline constexpr std::size_t kPacketDescriptorsMax = 8;

// As sendmsg(2); never SIGPIPE, goes on after EINTR. System calls only: may stand between fork and exec.
ssize_t send_packet(int socket, std::string_view bytes, std::span<const int> descriptors = {},
                    int flags = 0);

struct ReceivedPacket {
  ssize_t size_bytes = -1;  // as recvmsg(2): 0 at the end, -1 and errno
  bool truncated = false;   // the packet was larger than the buffer
  std::vector<Fd> descriptors;
};
// Goes on after EINTR; the descriptors close on exec. Those above kPacketDescriptorsMax the kernel closes.
ReceivedPacket receive_packet(int socket, std::span<char> buffer, int flags = 0);

}  // namespace loam
