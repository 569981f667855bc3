// GET /v1/openapi.json, /v1/node, POST /v1/node/{stop,reload,backup}, GET /v1/doctor: the node about itself and its
// machine.
#pragma once

#include <functional>

#include "node/node.h"
#include "node/runs.h"

namespace loam::node {

class NodeRoutes {
 public:
  struct Actions {
    std::function<void()> stop;            // ends the node once its replies have left
    std::function<Result<void>()> reload;  // reads the configuration again
  };
  NodeRoutes(Node& node, Runs& runs, Actions actions);
  void add_routes(Routes& routes);  // they outlive this

 private:
  Json status() const;
  Result<void> check_owner(const Request& request, const std::string& action) const;
  void stop(const Request& request, ResponderPtr responder);
  void reload(const Request& request, ResponderPtr responder);
  void backup(const Request& request, ResponderPtr responder);
  Json doctor() const;

  Node& node_;
  Runs& runs_;
  Actions actions_;
};

}  // namespace loam::node
