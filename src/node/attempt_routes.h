// GET /v1/logs/TARGET and POST /v1/attach/TARGET: an attempt's output, and its terminal. POST
// /v1/join/TARGET (attempt_joins.cc): one more process in it.
//
//   shim ─ output/current.log ─ inotify ─▶ LogStream ─▶ Responder        client ══ connection ══▶
//   shim (attach)
//
// One inotify instance watches the output folders of all followed attempts. Slow readers are waited
// for.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "node/node.h"
#include "node/runs.h"

namespace loam::node {

class AttemptRoutes {
 public:
  AttemptRoutes(Node& node, Runs& runs);
  ~AttemptRoutes();

  void add_routes(Routes& routes);
  // The supervisor's events, before the runs'.
  void on_running(AttemptId attempt);
  void on_exit(AttemptId attempt);

 private:
  struct LogStream;
  using LogStreamPtr = std::shared_ptr<LogStream>;

  void logs(const Request& request, const std::string& target, ResponderPtr responder);
  void attach(const Request& request, const std::string& target, ResponderPtr responder);
  void join(const Request& request, const std::string& target, ResponderPtr responder);
  bool wait_to_attach(const Request& request, const std::string& target,
                      const ResponderPtr& responder);
  void pump(const LogStreamPtr& stream);
  void follow(const LogStreamPtr& stream);
  void forget(const LogStreamPtr& stream);
  void folder_changed();
  void pump_attempt(AttemptId attempt);

  Node& node_;
  Runs& runs_;
  Fd inotify_;
  std::map<int, AttemptId> watched_;                     // watch descriptor → attempt
  std::map<AttemptId, std::set<LogStreamPtr>> streams_;  // those that follow
  std::set<Runs::Again> attach_waits_;                   // for an attempt to attach to
  Loop::Watch watch_;                                    // last: ends before the descriptor closes
};

}  // namespace loam::node
