// Where the ranks of a gang find each other: a port of this machine, another one for each attempt,
// so that none meets what is left of the one before it.
//
// In the host's network the port is reserved for as long as the attempt lives: a socket is bound to
// it with SO_REUSEADDR and never listens. The kernel then gives the port to nobody who asks for any
// (bind to 0, connect), while rank 0 can bind it, with SO_REUSEADDR as servers do (tcp(7), ip(7);
// inet_csk_bind_conflict). Without a network of the host's each sandbox has all ports to itself.
#pragma once

#include <cstdint>

#include "api/attempt.h"
#include "base/fd.h"
#include "base/result.h"

namespace loam::shim {

struct Rendezvous {
  std::uint16_t port = 0;
  Fd reserved;  // none where the attempt has a network of its own
};
Result<Rendezvous> take_rendezvous(const api::AttemptPlan& plan);

}  // namespace loam::shim
