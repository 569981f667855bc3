// One life of a node: the real supervisor, database and usage over the simulated world, and above
// them the little that this simulation has instead of node/runs: jobs that wait for an exclusive
// device, and what follows from an attempt's end.
#pragma once

#include <map>
#include <memory>
#include <set>

#include "node/database.h"
#include "node/supervisor.h"
#include "node/usage.h"
#include "simulated_loop.h"
#include "world.h"

namespace loam::simulation {

inline constexpr int kDevices = 3;
inline const char* const kDatabase = "node.db";

// What outlives the node and knows the truth.
struct Witness {
  std::set<std::int64_t> acknowledged;
  std::map<std::int64_t, int> exits;  // committed, by attempt
  std::map<std::int64_t, std::string> ended_as;
};

class NodeLife {
 public:
  NodeLife(World& world,
           Witness& witness);  // opens the database and begins to recover; may throw NodeKilled
  ~NodeLife();

  void submit();
  void stop_something(api::Outcome why);
  bool step();
  void end_turn();
  void cut_a_connection() { loop_.impl().cut_a_connection(); }
  void check();
  bool at_rest();  // every job has its final state
  bool all_drained();
  void check_at_rest();

 private:
  void on_exit(node::AttemptId id, const api::ExitRecord& record, bool reboot);
  void judge(node::AttemptId id, const api::ExitRecord& record, bool reboot);
  void start_what_can();
  std::set<int> taken_devices();

  World& world_;
  Witness& witness_;
  node::Loop loop_;
  std::unique_ptr<node::Database> database_;
  std::unique_ptr<node::Usage> usage_;
  std::unique_ptr<node::Supervisor> supervisor_;
  bool recovered_ = false;
};

}  // namespace loam::simulation
