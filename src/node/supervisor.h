// Attempts: started, watched through their shims, found again after a restart, fenced, ended
// exactly once (recovery.md). Knows nothing of runs and steps; owns the table `attempts`.
//
// A lane is an attempt that is handed tasks, each an attempt with a row of its own but neither shim
// nor folder besides its output's (supervisor_lanes.cc).
//
//   start() ─ row "starting" ─ commit ─ folder, lock ─ cgroup ─ shim ─ "running" ─ … ─ exit record
//   ─ commit ─ on_exit
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/attempt.h"
#include "base/fd.h"
#include "node/database.h"
#include "node/loop.h"
#include "node/paths.h"
#include "sandbox/cgroup.h"

namespace loam::node {

using AttemptId = std::int64_t;
using JobId = std::int64_t;

struct AttemptView {
  AttemptId id = 0;
  JobId job = 0;
  int number = 0;     // 1, 2, … of its job
  std::string boot;   // boot id of its start
  std::string state;  // starting, running, ended
  std::int64_t created_ms = 0, started_ms = 0, ended_ms = 0;
  api::ExitRecord exit;  // where ended
  Json placement;        // as start() was given it
  AttemptId lane = 0;    // of a task's: the attempt that it runs in; of a lane's: itself

  bool in_lane() const { return lane != 0 && lane != id; }
};

// What a lane is handed.
struct LaneTask {
  JobId job = 0;
  int number = 1;
  Json environment;  // what it has besides the lane's
  std::string work;  // where what it leaves goes
};

class Supervisor {
 public:
  struct Events {
    std::function<void(AttemptId)> on_running;
    // In the turn whose transaction records the exit; called once per attempt. `reboot`: lost with
    // its boot.
    std::function<void(AttemptId, const api::ExitRecord&, bool reboot)> on_exit;
    // What a lane was handed and never began: these jobs have no attempt any more. Also without any.
    std::function<void(AttemptId lane, const std::vector<std::pair<AttemptId, JobId>>&)>
        on_returned = {};
  };
  // `shim`: the program; "" : loam-shim beside our own.
  Supervisor(Loop& loop, Database& database, const NodeContext& context, Events events,
             std::string shim = "");
  ~Supervisor();

  // At the node's start: adopts living shims, commits exits found on disk, fences and loses the
  // rest, removes cgroups without an attempt. on_exit runs for what ended; `done` when all is
  // known.
  void recover(std::function<void()> done);

  // At the node's end: the helper that forks shims goes, the shims live on.
  void stop_helper();

  // Fills in attempt, folder and cgroup of the plan. Asynchronous; failures come as
  // on_exit(failed_to_start). `prepare_folder` runs on a worker once the attempt's folder exists
  // (project upper, channel folder, …).
  // `placement`: what the attempt holds, committed with it and handed back by find().
  AttemptId start(JobId job, api::AttemptPlan plan, const sandbox::CgroupLimits& limits,
                  std::function<Result<void>(const std::string& folder)> prepare_folder = {},
                  const Json& placement = {});
  // Of an attempt that has ended, these do nothing. Before its shim is there, stop and kill keep it
  // from starting, signal is dropped, attach waits for the shim.
  // TERM, grace, KILL; `preempted` as docs/formats/shim.md says. The first reason counts, but a
  // cancellation overrides a preemption. `error`: what the record is to say.
  void stop(AttemptId attempt, api::Outcome reason, const std::string& error = {});
  void kill(AttemptId attempt);
  void signal(AttemptId attempt, int number);
  Result<void> attach(AttemptId attempt, Fd stream);  // ended: unavailable
  // A client's stream with another packet of api/attempt.h that takes one; as attach.
  Result<void> hand_over(AttemptId attempt, Json packet, Fd stream);

  // The row is committed before the lane hears of it. on_running, on_exit or on_returned follows.
  AttemptId hand(AttemptId lane, const LaneTask& task);
  // False where it has ended, and from give_back to on_returned: what is handed meanwhile would cross
  // the answer.
  bool takes_tasks(AttemptId lane) const;
  void give_back(AttemptId lane);  // on_returned follows
  void close(AttemptId lane);      // ends when it has nothing left to do
  std::vector<AttemptId> handed(AttemptId lane) const;

  std::vector<AttemptView> attempts_of(JobId job) const;  // oldest first
  std::optional<AttemptView> find(AttemptId attempt) const;
  std::string folder_of(AttemptId attempt) const;
  // Removes an ended attempt's folder (garbage collection); the row stays. busy where it has not
  // ended.
  Result<void> remove_folder(AttemptId attempt);

  struct Impl;  // named by the .cc files that share it

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace loam::node
