// What the parts of the daemon share: one object of each, made by node_main in this order and alive
// until it ends. Everything here belongs to the loop thread; `store` alone may be used from
// workers.
//
//   node_main ─ makes ─▶ Node ─▶ Runs (orchestration), attempt routes ─▶ Routes ◀─ HttpServer
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/json.h"
#include "devices/host.h"
#include "node/database.h"
#include "node/http_server.h"
#include "node/loop.h"
#include "node/paths.h"
#include "node/queue.h"
#include "node/routes.h"
#include "node/supervisor.h"
#include "sandbox/guards.h"
#include "store/store.h"

namespace loam::node {

struct Node {
  Loop& loop;
  Database& db;
  store::Store& store;
  Supervisor& supervisor;
  Queue& queue;
  NodeContext context;
  devices::Capacity capacity;
  Json host_facts;                     // devices::read_host_facts(), taken once at the start
  std::vector<sandbox::Guard> guards;  // probed once at the start
  std::int64_t started_ms = 0;         // wall clock
  std::string boot_id;
};

}  // namespace loam::node
