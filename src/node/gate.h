// The node's side of `listen:`: binds the address, keeps a gate (gate_main.h) in front of it, takes
// the clients that the gate hands on. Threads: the loop.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "node/http_server.h"
#include "node/loop.h"
#include "node/paths.h"
#include "spec/node_config.h"

namespace loam::node {

class Gate {
 public:
  using Taken = std::function<void(RemoteClient client)>;
  Gate(Loop& loop, const Identity& identity, Taken taken)
      : loop_(loop), identity_(identity), taken_(std::move(taken)) {}

  // What listens from now on; a certificate that has changed on disk is read again. What is open
  // goes on with the gate that has it. An error changes nothing.
  Result<void> configure(const std::optional<spec::Listen>& listen);
  void stop();  // all gates, and with them all that came through them

 private:
  struct Running {
    Child child;
    Fd control;
    Loop::Watch spoken, ended;
    bool draining = false;
  };
  using RunningPtr = std::shared_ptr<Running>;

  Result<RunningPtr> start(const spec::Listen& listen, const Fd& listener);
  void watch(const RunningPtr& gate);
  void spoke(const RunningPtr& gate);
  void gone(const RunningPtr& gate);
  void start_again();

  Loop& loop_;
  const Identity& identity_;
  Taken taken_;
  std::optional<spec::Listen> listen_;
  Fd listener_;
  RunningPtr now_;
  std::list<RunningPtr> all_;  // those that drain, too
  Loop::Timer pause_;
};

}  // namespace loam::node
