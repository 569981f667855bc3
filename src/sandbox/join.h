// One more process in a running sandbox (docs/interactive.md). Whoever
// joins is a child of the sandbox's pid 1, not a process that enters from outside: it has by birth
// what the job has (namespaces, ids, seccomp filter, cgroup, devices) and nothing else. The job may
// do to it what it may do to its own processes, for it holds nothing that they have not.
//
//   keeper ── join: JSON, streams ──▶ pid 1 ── fork ──▶ process      'n' (terminal), 'x' (end) come
//   back
//
//   keeper ── connect: port ──▶ pid 1 ── connect(2) begun on loopback ──▶ 'c' with the socket comes
//   back
//
// Trust: the keeper's packets are Loam's own. pid 1 never waits for anything of the job.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "sandbox/identity.h"
#include "sandbox/init.h"

namespace loam::sandbox {

inline constexpr std::size_t kControlBytesMax = 96u << 10;  // of a packet to pid 1, JSON included

struct Join {
  std::uint32_t session = 0;
  std::vector<std::string> argv;
  std::vector<std::pair<std::string, std::string>> environment;  // instead of the job's
  bool terminal = false;
};
struct JoinedStreams {
  Fd input, output, error;  // none with a terminal: its master comes with 'n'
};

// ---- keeper ----
Result<JoinedStreams> send_join(int control, const Ids& ids, const Join& join);
enum class Loopback : std::uint8_t { ipv4 = 4, ipv6 = 6 };
Result<void> send_connect(int control, std::uint32_t session, Loopback where, std::uint16_t port);

// ---- pid 1 ----
// The pid, after the fork. `bytes` follow the ControlPacket.
Result<pid_t> start_joined(const InitParts& parts, std::uint32_t session, std::string_view bytes,
                           const std::vector<Fd>& descriptors);
// Begins to connect and gives the keeper the socket, which tells what became of it.
void start_connection(int control, const ControlPacket& packet);

}  // namespace loam::sandbox
