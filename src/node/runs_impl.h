// The state behind Runs, shared by the files that each do one part of a run's life:
//
//   submit.cc ─ prepare.cc ─ jobs.cc (queue, start) ─ finish.cc (exits, versions) ─ settle
//                                └─ services.cc (replicas, gateway)
//   run_routes.cc, model_routes.cc, file_routes.cc, trace_routes.cc, collect.cc: what is asked of
//   it
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "node/envs.h"
#include "node/models.h"
#include "node/node.h"
#include "node/plan.h"
#include "node/run_events.h"
#include "node/run_tables.h"
#include "node/runs.h"
#include "node/secrets.h"
#include "node/user_child.h"

namespace loam::node {

class Services;
struct Preparation;
struct Submission;
struct Finding;

inline constexpr std::uint64_t kKeptFilesBytesMax = 1ull << 30;  // of one attempt
inline constexpr std::int64_t kLostInARowMax = 3;

using ProjectPtr = std::shared_ptr<const spec::Project>;

// RUN[/STEP[/ATTEMPT]] as found.
struct Target {
  RunRow run;
  std::optional<JobRow> job;
  std::optional<AttemptView> attempt;
};

// What makes a job's plan, gathered on the loop; finished on a worker.
struct StartInputs;

struct Runs::Impl {
  explicit Impl(Node& the_node);
  ~Impl();

  Node& node;
  RunTables tables;
  RunEvents events;
  Models models;
  Envs envs;
  Secrets secrets;
  PlanFacts facts;
  std::unique_ptr<Services> services;
  bool idmap = false;    // trees are shown by idmapped mounts, not by copies
  bool resumed = false;  // before: exits are only noted
  std::map<RunId, std::shared_ptr<Preparation>> preparations;
  std::map<JobId, Loop::Timer> lost_pauses;  // before a lost attempt is tried again
  std::set<JobId> starting;                  // a plan is being made
  std::set<JobId> finishing;                 // an output is being taken in
  std::map<RunId, ProjectPtr> projects;      // parsed files
  struct Idle {
    std::set<JobId> jobs;
    std::function<void()> done;
  };
  std::vector<Idle> idle;  // who waits for jobs to end
  std::multimap<JobId, std::weak_ptr<std::function<void()>>> attempt_waits;  // Runs::await_attempt

  // runs.cc
  ProjectPtr project_of(const RunRow& run);  // null where there is no file
  const spec::Step* step_of(const RunRow& run, const JobRow& job);
  const spec::Service* service_of(const RunRow& run, const JobRow& job);
  bool may_act(const Caller& caller, const RunRow& run) const;
  Result<Target> find_target(const Caller& caller, const std::string& text);
  Result<AttemptView> find_attempt(const Caller& caller, const std::string& text,
                                   Target* target = nullptr);
  static std::string target_text(const JobRow& job);
  std::optional<AttemptView> last_attempt(JobId job) const;
  bool attempt_alive(JobId job) const;
  std::string work_of(const JobRow& job, int number) const;
  TreeView tree_view(const std::string& digest_hex, const RunRow& run,
                     std::string* error) const;  // worker
  void set_run_state(RunRow& run, const std::string& state, const std::string& error = {});
  void note(RunId run, const std::string& text);
  void when_ended(const std::vector<JobRow>& jobs, std::function<void()> done);
  void when_groups_gone(std::function<void()> done, std::int64_t since_ns);
  Loop::Timer groups_timer;
  void resume();

  // submit.cc
  void submit(const Request& request, ResponderPtr responder);
  void submit_shell(const Request& request, ResponderPtr responder);
  void snapshot_taken(const std::shared_ptr<Submission>& submission);
  void tell_what_was_lost(const RunRow& run);
  Result<void> record_submission(Submission& submission);
  Result<void> fill_identity(const Caller& caller, RunRow& run);

  // prepare.cc
  void prepare(RunId run);
  void prepare_envs(const std::shared_ptr<Preparation>& preparation);
  void env_done(const std::shared_ptr<Preparation>& preparation, std::size_t index,
                const Result<EnvOutcome>& outcome);
  void write_lock(const std::shared_ptr<Preparation>& preparation);
  void prepared(const std::shared_ptr<Preparation>& preparation);
  void preparation_failed(const std::shared_ptr<Preparation>& preparation,
                          const std::string& error);
  void drop_preparation(RunId run);  // cancelled: its builds are no longer wanted
  void lock_only(const Request& request, ResponderPtr responder);

  // jobs.cc
  void attempt_known(JobId job);  // it has one, or has ended: tells those who wait for that
  void consider(RunId run);       // what is blocked may go on; settles
  void consider_step(RunRow& run, JobRow job, const std::vector<JobRow>& all);
  void enqueue(JobRow& job);
  void on_granted(JobId job);
  void start_attempt(JobId job);
  void start_planned(const StartInputs& inputs, Result<api::AttemptPlan> plan);
  StartInputs gather(const RunRow& run, const JobRow& job);
  Result<api::AttemptPlan> make_plan(const StartInputs& inputs) const;  // worker
  void end_job(JobRow& job, const std::string& state, const std::string& error,
               Json data = Json::object());
  void cancel_job(JobRow job, const std::string& why);
  void settle(RunId run);
  void step_event(const JobRow& job, Json data);
  std::vector<std::string> cancel_run(RunRow run, const std::string& why);

  // finish.cc
  void on_running(AttemptId attempt);
  void on_exit(AttemptId attempt, const api::ExitRecord& record, bool reboot);
  void on_lost(JobRow& job, bool reboot);
  std::string last_words(const AttemptView& attempt) const;  // the line of output that mattered
  void finish(JobId job);
  void finished(JobId job, const AttemptView& attempt, Finding& finding);
  void attempt_failed(JobRow& job, const AttemptView& attempt, const Finding& finding);

  // routes
  void run_routes(Routes& routes);
  void model_routes(Routes& routes);
  void file_routes(Routes& routes);
  void trace_routes(Routes& routes);
  void store_routes(Routes& routes);
  Json run_json(const RunRow& run, bool with_jobs);
  Json job_json(const RunRow& run, const JobRow& job);

  // collect.cc
  struct KeepPlan;
  void collect(bool dry_run, ResponderPtr responder);
  void choose(KeepPlan& plan);
  // A pin whose rows are committed; while a collection runs it is kept until the end.
  void release_pin(std::shared_ptr<store::Store::Pin> pin);
  bool collecting = false;
  std::vector<std::shared_ptr<store::Store::Pin>> held_pins;
};

// Gathered on the loop, turned into a plan on a worker.
struct StartInputs {
  RunRow run;
  JobRow job;
  ProjectPtr project;
  int number = 1;
  std::string env_base;                                       // "host" or "debian:…"
  std::string env_tree;                                       // hex
  std::vector<std::pair<std::string, std::string>> upstream;  // path below /project, tree
  std::string model_tree;
  std::string endpoint_folder;
  std::string channel_folder;
  std::string shown_upper;  // shell: the kept files to copy
};

std::string user_name(std::uint32_t uid);
UserIds reader_of(const RunRow& run);
UserIds ids_of(const Caller& caller);
// What an attempt printed last, at most `bytes_max`.
std::string output_tail(const std::string& attempt_folder, std::size_t bytes_max);
std::string describe_exit(const api::ExitRecord& record);
bool succeeded(const api::ExitRecord& record);
// A Folder over a snapshot; data patterns were looked up with the user's rights.
class SnapshotFolder : public spec::Folder {
 public:
  SnapshotFolder(std::vector<store::ListingEntry> listing, std::string tree_path,
                 std::set<std::string> matched, bool any_match)
      : listing_(std::move(listing)),
        tree_path_(std::move(tree_path)),
        matched_(std::move(matched)),
        any_match_(any_match) {}
  bool has_file(const std::string& relative) const override;
  bool has_match(const std::string& pattern) const override;
  Result<std::string> read(const std::string& relative) const override;

 private:
  std::vector<store::ListingEntry> listing_;
  std::string tree_path_;
  std::set<std::string> matched_;
  bool any_match_;
};

}  // namespace loam::node
