// Where this node keeps what, and with which ids. Root: /var/lib/loam and /run/loam. A user's own
// node: $XDG_STATE_HOME/loam and $XDG_RUNTIME_DIR/loam (or STATE/run). LOAM_STATE_DIR and
// LOAM_RUNTIME_DIR override both (tests, several nodes on one machine).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "sandbox/build.h"
#include "sandbox/cgroup.h"

namespace loam::node {

inline constexpr const char* kSystemState = "/var/lib/loam";  // the system's own node's

bool is_system_state(const std::string& state);

struct Paths {
  std::string state;  // 0711 root node, 0700 rootless
  std::string runtime;
  std::string
      socket;  // RUNTIME/node.sock, 0666 for the root node (peer credentials decide), 0600 rootless
  std::string database;   // STATE/node.db
  std::string store;      // STATE/store
  std::string attempts;   // STATE/attempts
  std::string builds;     // STATE/builds
  std::string outputs;    // STATE/outputs/ATTEMPT: output folders, owned by the job's user
  std::string checkpoints;  // STATE/checkpoints/JOB (checkpoints.h), 0700
  std::string homes;      // STATE/homes/UID/PROJECT
  std::string endpoints;  // STATE/endpoints/ID
  std::string secrets;    // STATE/secrets, 0700
  std::string log;        // STATE/node.log
  // /etc/loam/node.yaml, or a user's $XDG_CONFIG_HOME/loam/node.yaml; LOAM_NODE_CONFIG overrides.
  std::string config;
  bool config_named = false;  // by that variable: then it must be there
};

// How this node sees ids (sandbox.md, "Identity").
struct Identity {
  bool rootless = false;        // runs as namespace 0 of its own user namespace
  bool single_id = false;       // rootless without subordinate ids: only base: host
  std::uint32_t owner_uid = 0;  // rootless: the user
  std::uint32_t owner_gid = 0;
  sandbox::IdRange build_uids;  // the build range, as this node sees ids
  sandbox::IdRange build_gids;
  std::uint32_t job_uid = 0;  // root node: Loam's unprivileged id for jobs of root
  std::uint32_t job_gid = 0;
};

struct NodeContext {
  Paths paths;
  Identity identity;
  sandbox::CgroupParents cgroups;
};

// What our own programs see of our environment: how to find libraries and their switches, nothing of the user's.
std::vector<std::string> environment_of_helpers();

// From the caller's uid and environment; links on the way to the state folder are resolved.
Paths paths_for(bool root);
// The socket a CLI of this uid should use: LOAM_RUNTIME_DIR's, else a system node's where it
// exists, else the user's. (engines/ has the same rule for the client side; both follow
// docs/node-api.md.)

}  // namespace loam::node
