// Runs: from a submission to the last exit. Owns the tables runs, jobs, envs, models, versions,
// endpoints and their state machines; attempts are the supervisor's, claims the queue's.
//
//   POST /v1/runs ─ snapshot (child with the user's ids) ─ row ─ 201 ─ envs ─ staleness ─┐
//   ┌────────────────────────────────────────────────────────────────────────────────┘
//   └▶ job queued ─ granted ─ AttemptPlan ─ supervisor ─ on_exit ─ version, retries ─ settled
//
// Threads: everything on the loop; hashing, builds and children that are waited for go through
// Loop::offload. Trust: the file, the project's folder, and what a job writes are foreign bytes.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "api/attempt.h"
#include "base/result.h"
#include "node/http_server.h"
#include "node/supervisor.h"

namespace loam::node {

struct Node;
class Routes;

class Runs {
 public:
  explicit Runs(Node& node);
  ~Runs();

  // docs/node-api.md, all but /v1/node*, /v1/doctor, /v1/logs and /v1/attach.
  void add_routes(Routes& routes);

  // The supervisor's and the queue's events. on_exit runs in the turn that records the exit.
  void on_running(AttemptId attempt);
  void on_exit(AttemptId attempt, const api::ExitRecord& record, bool reboot);
  void on_returned(AttemptId lane, const std::vector<std::pair<AttemptId, JobId>>& tasks);
  void on_granted(JobId job);
  void on_preempt(JobId victim, JobId beneficiary);

  // Once, after the supervisor has recovered: what was preparing is prepared again, what waited
  // queues again, services and gateways that no longer run are started.
  void resume();

  // RUN[/STEP[/ATTEMPT]]: parts left out mean the last failed, else the newest. Others' runs:
  // not_found.
  // `whole`: the target that names this attempt whatever comes after it, RUN/STEP/ATTEMPT.
  Result<AttemptId> resolve_attempt(const Caller& caller, const std::string& target, std::string* whole = nullptr);
  // True where the target's job has no living attempt but may get one: `again` then runs once it
  // has one, or once the job has ended without; forgotten when the caller drops it.
  using Again = std::shared_ptr<std::function<void()>>;
  bool await_attempt(const Caller& caller, const std::string& target, const Again& again);
  bool visible(const Caller& caller, JobId job);
  Json who(JobId job) const;  // {"target": "17/train", "user": "anna"}; null: no such job
  // Stops every job and service of every run; `done` when no attempt is left.
  void stop_all(std::function<void()> done);

  // While it lives nothing that is stored is collected. busy: a collection is at it.
  Result<std::shared_ptr<void>> hold_collection();

  struct Counts {
    int running = 0;
    int waiting = 0;
  };
  Counts counts() const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace loam::node
