// What lies around the node's supervisor, simulated: shims, their jobs' process groups, clock and
// boot, workers. Real here are the sockets, locks and files between node and shim, and the shim's
// half of the connection and of the record (shim/node_link.cc, shim/exit_record.cc). One thread,
// one Random.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "api/attempt.h"
#include "base/fd.h"
#include "random.h"
#include "shim/node_link.h"

namespace loam::simulation {

struct NodeKilled {};  // thrown at a crash point: unwinds the node as its death would

struct Group {
  bool populated = false;  // the job's processes live
  bool unkillable = false;
  std::int64_t job = 0;
  int device = 0;
};

struct Shim {
  enum class State { forked, running, ended, dying };
  State state = State::forked;
  std::string attempt, folder;
  Fd lock, first, alive;  // alive: the other end is what the node holds as its pidfd
  std::optional<shim::NodeLink> link;
  std::optional<api::Outcome> stopped;
  std::int64_t started_ms = 0;
  bool committed = false;
};

class World {
 public:
  World(std::uint64_t seed, bool trace) : random(seed), trace_(trace) {}
  static World*& current();

  void shim_step();  // one thing that one of the shims does, where there is one
  void kill_a_shim();
  void reboot();
  void time_passes(std::int64_t ms) {
    steady_ms += ms;
    wall += ms;
  }
  void say(const std::string& text);
  void broken(const std::string& what);  // an invariant does not hold
  void check();                          // after each step

  Random random;
  bool faults = true;
  std::int64_t steady_ms = 1'000'000, wall = 1'800'000'000'000;
  int boots = 1;
  std::string crash_at;  // the crash point that kills the node, "" for none
  int crash_passages = 0;
  std::vector<std::unique_ptr<Shim>> shims;
  std::map<std::string, Group> groups;
  std::map<std::string, std::string> durable;  // attempt → its exit record as the disk has it
  std::map<std::string, std::string> told;     // as its shim told it
  std::set<std::string> began;                 // attempts whose job's process ran
  std::string failure;
  std::uint64_t steps = 0, hash = 1469598103934665603u;

 private:
  void begin(Shim& shim);
  void end(Shim& shim);
  void hear(Shim& shim);
  bool trace_;
};

}  // namespace loam::simulation
