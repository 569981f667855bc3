// Endpoints: for each user and project a gateway and, behind it, the replicas of its services. The
// contract with the gateway is api/endpoint.h.
//
//   begin(run) ─ versions ─ replica jobs (queued like any other) ─ running ─▶ plan.json ─▶ gateway
//   gateway ─▶ status.json (foreign bytes, inotify) ─▶ ready ─▶ the old replicas answer what
//   they hold and end ─▶ run "serving"
//
// services.cc: a replica's life; rollout.cc: how a run takes an earlier one's place; elastic.cc:
// how many replicas there are; endpoints.cc: rows, folders, the gateway's word.
//
// A replica or gateway that dies is started again after a pause that doubles from 100 ms to 30 s
// and begins anew once one has lived for a minute. It is never given up; the run's events say what
// happens.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "api/endpoint.h"
#include "base/fd.h"
#include "node/loop.h"
#include "node/port_holder.h"
#include "node/runs_impl.h"
#include "node/scale.h"

namespace loam::node {

class Services {
 public:
  explicit Services(Runs::Impl& runs);
  ~Services();

  // Before resume(): a replica that is to be in the queue again. One that was to be given back is.
  bool comes_back(const JobRow& job);
  void resume();
  // Before the run's steps: a word on a port that is in use, while there is time.
  void look_at_port(const RunRow& run);
  // The run's steps are done: its replicas replace those of the project's earlier run.
  void begin(RunRow& run);
  void gather(StartInputs& inputs);  // what a replica's or gateway's plan needs
  void started(const JobRow& job, AttemptId attempt, const StartInputs& inputs);
  void start_failed(JobRow job, const std::string& error);
  // One that its service can do without, before its attempt began.
  void given_back(const JobRow& job);
  void on_running(const JobRow& job, const AttemptView& attempt);
  void on_exit(JobRow job, const AttemptView& attempt, const api::ExitRecord& record, bool reboot);
  // The run was cancelled: its endpoint is the earlier run's again, or goes with it.
  void left(RunId run, const std::string& why);
  // Asked before a replica is cancelled. True: it was handed over to the run that has adopted it.
  bool spared(const JobRow& job);

  // By folder or name; the jobs that were told to stop.
  std::vector<JobRow> down(const Caller& caller, const std::string& folder,
                           const std::string& name);
  std::vector<std::string> request_logs(const Caller& caller) const;
  bool serves_alike(const RunRow& run, const spec::Project& project, JobRow job,
                    const ModelVersion& version, const std::string& code);
  bool serves(std::uint32_t uid, const std::string& model, std::int64_t version);

 private:
  struct Replica {
    std::string service;
    AttemptId attempt = 0;
    std::string folder;  // below replicas/
    std::string record;
    bool running = false;   // listed in the plan
    bool retiring = false;  // of an earlier run: is told to end when the new ones are ready
  };
  struct Endpoint {
    std::int64_t id = 0;
    std::uint32_t uid = 0;
    std::string project, folder, listen;
    std::string plan;  // what the gateway was last told
    RunId run = 0;
    JobId gateway = 0;
    bool active = true;
    bool listened = false;  // once, since the gateway was last started for a new address
    bool moving = false;    // its gateway ends for another address: what it still says is old
    std::map<JobId, Replica> replicas;
    std::map<JobId, JobId> adopted;  // an earlier run's replica → our job that stands in for it
    Fd inotify;
    Loop::Watch watch;
    Json status;
    std::set<std::string> ready;              // services announced as ready
    std::map<std::string, std::string> told;  // the gateway's last finding on each service
    std::map<std::string, std::int64_t> scaled_ms;  // when each service's number last changed
    Loop::Timer scale_timer;  // the gateway's next word came sooner after that than it may
  };
  struct Pause {
    std::int64_t wait_ms = 0;
    Loop::Timer timer;
  };

  Endpoint* of_job(const JobRow& job);
  std::string folder_of(const Endpoint& endpoint) const;
  Endpoint& open_endpoint(const RunRow& run);
  void save(const Endpoint& endpoint);
  Result<void> make_folders_of(Endpoint& endpoint, const RunRow& run);
  Result<void> watch_status(Endpoint& endpoint);
  void status_changed(std::int64_t endpoint);
  void ensure_gateway(Endpoint& endpoint, const RunRow& run);
  void plan_changed(const Endpoint& endpoint);
  void write_plan(Endpoint& endpoint);
  api::EndpointPlan plan_of(const Endpoint& endpoint, const spec::Project& project);
  const spec::Service* service_of(const spec::Project& project, const JobRow& job);
  bool is_expected(const JobRow& job);
  void service_event(const Endpoint& endpoint, const std::string& service, const std::string& state,
                     const std::string& error = {});
  void restart_later(JobRow& job, std::int64_t lived_ms, const std::string& why);
  void replica_record(Endpoint& endpoint, const JobRow& job, const AttemptView& attempt);
  void port_taken(const Endpoint& endpoint, JobRow gateway);
  std::string taken_text(const RunRow& run, const spec::Project& project,
                         const std::optional<PortHolder>& holder);
  void give_up(Endpoint& endpoint, const std::string& error);
  void close(Endpoint& endpoint, const std::string& why);
  std::set<std::string> ready_replicas(const Endpoint& endpoint, const std::string& service) const;

  // rollout.cc
  RunId later_run(const RunRow& run);
  void step_aside(RunRow& run, RunId later);
  std::map<std::string, ModelVersion> find_versions(const RunRow& run, std::string& error);
  void take_place(Endpoint& endpoint, RunRow& run,
                  const std::map<std::string, ModelVersion>& versions);
  std::vector<JobRow> adopt_same(Endpoint& endpoint, const RunRow& run,
                                 const std::map<std::string, ModelVersion>& versions);
  std::vector<JobRow> stand_ins(const Endpoint& endpoint);
  JobId living_equal(const Endpoint& endpoint, const JobRow& job);
  void mark_retiring(Endpoint& endpoint);
  void drop_unready(Endpoint& endpoint);
  void check_ready(Endpoint& endpoint);
  bool check_service(Endpoint& endpoint, const spec::Service& service);
  void announce(Endpoint& endpoint, RunRow& run, const spec::Project& project);
  bool hand_over(Endpoint& endpoint, JobId living);
  void end_replaced(const Endpoint& endpoint, const std::string& why);
  void end_if_replaced(RunId id, const std::string& why);
  void drop_retiring(Endpoint& endpoint, const std::string& service, const std::string& why);
  void drop(Endpoint& endpoint, const JobRow& job, const std::string& why);
  bool give_back(Endpoint& endpoint, const std::string& why);

  // elastic.cc
  bool is_elastic(const Endpoint& endpoint, const spec::Service& service) const;
  bool is_live(const Replica& replica, const JobRow& job) const;
  std::optional<api::ScalePlan> scale_plan(const Endpoint& endpoint, const spec::Service& service);
  void scale(Endpoint& endpoint);
  ScaleMoves moves_for(const Endpoint& endpoint, const spec::Service& service);
  void make_moves(Endpoint& endpoint, const spec::Service& service, const ScaleMoves& moves);
  void start_parked(Endpoint& endpoint, JobRow job);
  void stand_down(Endpoint& endpoint, JobRow job);
  void park(Endpoint& endpoint, JobRow job);
  void end_parked(RunId run, const std::string& why);
  void make_room(Endpoint& endpoint);
  spec::Replicas replicas_of(const JobRow& job);  // of its service, by its own run's file

  Runs::Impl& runs_;
  std::map<std::int64_t, std::unique_ptr<Endpoint>> endpoints_;
  std::map<JobId, Pause> pauses_;
};

}  // namespace loam::node
