// GET /v1/devices, POST /v1/devices/ID/drain and /resume: what each device of this machine is, who
// has it, and why it is not handed out.
#pragma once

#include <memory>

#include "node/node.h"
#include "node/runs.h"

namespace loam::node {

class DeviceRoutes {
 public:
  DeviceRoutes(Node& node, Runs& runs) : node_(node), runs_(runs) {}
  void add_routes(Routes& routes);

 private:
  void list(ResponderPtr responder);
  Json document(const Result<Json>& gpu_states) const;
  void drain(const Request& request, const std::string& device, const ResponderPtr& responder);
  void resume(const Request& request, const std::string& device, const ResponderPtr& responder);
  Result<void> check(const Request& request, const std::string& device) const;

  Node& node_;
  Runs& runs_;
};

}  // namespace loam::node
