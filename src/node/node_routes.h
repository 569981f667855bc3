// GET /v1/node, POST /v1/node/stop, GET /v1/doctor: the node about itself and its machine.
#pragma once

#include <functional>

#include "node/node.h"
#include "node/runs.h"

namespace loam::node {

class NodeRoutes {
 public:
  // `stop` ends the node once its replies have left.
  NodeRoutes(Node& node, Runs& runs, std::function<void()> stop);
  void add_routes(Routes& routes);

 private:
  Json status() const;
  void stop(const Request& request, ResponderPtr responder);
  Json doctor() const;

  Node& node_;
  Runs& runs_;
  std::function<void()> stop_;
};

}  // namespace loam::node
