// Ports of a job on this machine's loopback, as ssh -L has them: whoever connects here is connected,
// by node and shim, to what listens within the job.
//
//   accept ──▶ join (node, Upgrade) ──▶ attach frames with the shim ──▶ the job's 127.0.0.1:PORT
//
// Trust: frames are foreign bytes, checked by the FrameReader; what they carry passes as it is.
// Every user of this machine may connect to what is listened on here.
#pragma once

#include <poll.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "api/attach.h"
#include "base/fd.h"
#include "base/result.h"
#include "cli/console.h"
#include "engines/local_node.h"

namespace loam::cli {

struct PortPair {
  std::uint16_t local = 0;  // 0: any free one
  std::uint16_t job = 0;
  bool local_given = false;
};
// "6006" or "8080:6006".
Result<PortPair> parse_ports(const std::string& text);

// An error where something listens there already.
Result<void> check_port_is_free(std::uint16_t port);

class PortForward {
 public:
  // `target` as of POST /v1/join.
  PortForward(Console& console, engines::LocalNode node, std::string target)
      : console_(console), node_(std::move(node)), target_(std::move(target)) {}

  // The port that is listened on: the local one; where that was not given and is taken, another.
  Result<std::uint16_t> listen(const PortPair& ports);
  void add_polls(std::vector<pollfd>& polls) const;
  // The entries that add_polls made, after poll(2).
  void handle(const pollfd* polls);

 private:
  struct Listener {
    Fd socket;
    std::uint16_t job_port = 0;
  };
  // One connection: bytes here, frames there.
  struct Tunnel {
    Fd local;
    std::optional<engines::Exchange> opening;
    std::string refusal;
    Fd remote;
    api::FrameReader frames;
    std::string to_remote, to_local;
    bool local_ended = false;
    bool remote_ended = false;
    bool broken = false;
  };
  void accept_from(const Listener& listener);
  void handle(Tunnel& tunnel, const pollfd& local, const pollfd& remote);
  void open_remote(Tunnel& tunnel);
  void read_local(Tunnel& tunnel);
  void read_remote(Tunnel& tunnel);
  void take_frames(Tunnel& tunnel);
  void warn_once(const std::string& text);

  Console& console_;
  engines::LocalNode node_;
  std::string target_;
  std::vector<Listener> listeners_;
  std::deque<Tunnel> tunnels_;
  std::string warned_;
};

}  // namespace loam::cli
