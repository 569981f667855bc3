// What happened to a run, as its followers see it (docs/node-api.md, "Events of a run"): kept rows,
// replayed from the first, then followed live. Progress of environments is only the latest of each
// phase and lives in memory: preparation is done again after a restart.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "node/database.h"
#include "node/http_server.h"

namespace loam::node {

inline constexpr std::int64_t kEventsKeptMax = 10'000;              // of one run; the oldest go
inline constexpr std::size_t kFollowerPendingBytesMax = 256 << 10;  // a slow reader is waited for

std::string sse_text(std::string_view kind, const Json& data);

class RunEvents {
 public:
  explicit RunEvents(Database& database) : database_(database) {}

  void add(std::int64_t run, const std::string& kind, const Json& data);  // durable with the turn
  void progress(std::int64_t run, const std::string& phase, const Json& data);
  void forget_progress(std::int64_t run) { progress_.erase(run); }
  // The stream ends once `settle` has been called for the run and all is sent.
  void follow(std::int64_t run, ResponderPtr responder, bool settled);
  void settle(std::int64_t run);
  void remove(std::int64_t run);
  std::vector<Json> all(std::int64_t run);  // {kind, data}, oldest first

 private:
  struct Follower {
    std::int64_t run = 0;
    ResponderPtr responder;
    std::int64_t sent = 0;  // sequence number of the last row sent
    bool begun = false;  // the stream's head has left; nothing may be written before it
    bool settled = false;
    bool gone = false;
    bool waiting = false;  // for the reader to take what is pending
  };
  void pump(const std::shared_ptr<Follower>& follower);
  void pump_run(std::int64_t run);

  Database& database_;
  std::list<std::shared_ptr<Follower>> followers_;
  std::map<std::int64_t, std::map<std::string, Json>> progress_;
};

}  // namespace loam::node
