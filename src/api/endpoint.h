// The contract between node and gateway: which models a project's endpoint serves and by which replicas.
// The node writes it as ENDPOINT/plan/plan.json (atomic rename); the gateway reads it at start and on every
// change of the folder (inotify), so that either may be restarted at any time.
//
//   ENDPOINT/plan/plan.json         written by the node; the gateway sees the folder read-only
//   ENDPOINT/replicas/ATTEMPT/      one folder per replica attempt, owned by the job's user; the gateway
//                                   listens on channel.sock in it; bound into the replica as /loam/channel
//   ENDPOINT/requests/              request log segments, owned by the job's user, written by the gateway
//   ENDPOINT/status/status.json     written by the gateway: {"listening":"127.0.0.1:8000","models":
//                                   [{"name","version","ready":[ATTEMPT],"wanted","spare":[ATTEMPT],"conflict","error"}]} or
//                                   {"error":"…","port_taken":true}; the node reads it as foreign bytes. conflict: replicas with
//                                   other signatures than the connected ones were refused. wanted: so many replicas are
//                                   needed, null where the plan leaves no choice; spare: these get no more batches, have
//                                   none, and may end
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace loam::api {

inline constexpr std::chrono::seconds kReplicaWait{10};

struct ReplicaPlan {
  std::string attempt;         // names the folder; a gone replica is simply not listed any more
  std::string record;          // digest (hex) of its replica record: what the request log points at
};

// Where the number of replicas may change: the gateway says within which limits how many it wants.
struct ScalePlan {
  std::uint32_t min = 1;
  std::uint32_t max = 1;
  std::uint32_t wanted = 1;  // as the node has it: where a gateway begins that saw no load yet
};

struct ModelPlan {
  std::string name;            // the service's name in the URL
  std::string version;         // "3"
  std::uint32_t batch_max = 1;
  std::int64_t batch_delay_max_us = 0;
  std::uint32_t queue_max = 1024;       // requests waiting; more are 429
  std::int64_t request_timeout_ms = 60'000;
  bool expected = false;       // a replica starts or is about to: requests wait for it, kReplicaWait at most
  std::optional<ScalePlan> scale;
  std::vector<ReplicaPlan> replicas;
};

struct EndpointPlan {
  std::string project;
  std::string listen = "127.0.0.1:8000";
  std::vector<ModelPlan> models;
};

Json to_json(const EndpointPlan& plan);
Result<EndpointPlan> endpoint_plan_from(const Json& document);

}  // namespace loam::api
