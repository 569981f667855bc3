// What the parts of the daemon share: one object of each, made by node_main in this order and alive
// until it ends. Everything here belongs to the loop thread; `store` and `helpers` alone may
// be used from workers.
//
//   node_main ─ makes ─▶ Node ─▶ Runs (orchestration), attempt routes ─▶ Routes ◀─ HttpServer
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/json.h"
#include "node/config.h"
#include "node/database.h"
#include "node/devices.h"
#include "node/http_server.h"
#include "node/loop.h"
#include "node/machine.h"
#include "node/paths.h"
#include "node/queue.h"
#include "node/routes.h"
#include "node/shared_cpus.h"
#include "node/supervisor.h"
#include "node/user_child.h"
#include "sandbox/guards.h"
#include "store/store.h"

namespace loam::node {

struct Node {
  Loop& loop;
  Database& db;
  store::Store& store;
  Supervisor& supervisor;
  Queue& queue;
  Devices& devices;
  SharedCpus& shared_cpus;
  UserHelpers& helpers;
  NodeContext context;
  Hardware hardware;    // of the machine; what jobs can get of it is the queue's
  LoadedConfig config;  // in force
  Json host_facts;                     // devices::read_host_facts(), taken once at the start
  std::vector<sandbox::Guard> guards;  // probed once at the start
  std::int64_t started_ms = 0;         // wall clock
  std::string boot_id;
};

}  // namespace loam::node
