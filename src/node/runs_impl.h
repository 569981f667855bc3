// The state behind Runs, shared by the files that each do one part of a run's life:
//
//   submit.cc ─ prepare.cc ─ jobs.cc (queue, start) ─ finish.cc (exits, versions) ─ settle
//                                └─ services.cc, rollout.cc, endpoints.cc (replicas, gateway)
//   sweep.cc: a step that is many tasks; lanes.cc: tasks that share sandboxes
//   hold.cc, preempt.cc, why.cc: what keeps a job from running, and why;
//   full_disk.cc: who fills the disk of the state is ended;
//   job_devices.cc: what a job was granted; same_step.cc: steps that another run of the project has
//   under way
//   run_routes.cc, model_routes.cc, file_routes.cc, trace_routes.cc, store_routes.cc,
//   collect.cc: what is asked of it
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "node/checkpoints.h"
#include "node/code_views.h"
#include "node/envs.h"
#include "node/lanes.h"
#include "node/models.h"
#include "node/node.h"
#include "node/plan.h"
#include "node/run_events.h"
#include "node/run_tables.h"
#include "node/runs.h"
#include "node/secrets.h"
#include "node/store_use.h"
#include "node/system_users.h"
#include "node/usage.h"
#include "node/user_child.h"
#include "node/work_folders.h"

namespace loam::node {

class Services;
struct Inspected;
struct Preparation;
struct Submission;
struct Finding;
struct DiskWriter;

inline constexpr std::uint64_t kKeptFilesBytesMax = 1ull << 30;  // of one attempt
inline constexpr std::size_t kEnvsKept = 100;                    // used last, beside those of kept runs
inline constexpr std::int64_t kLostInARowMax = 3;

enum class Intent { run, forecast };  // of a submission: to be done, or only foretold

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
  CodeViews code;
  Usage usage;
  StoreUse store_use;
  Secrets secrets;
  PlanFacts facts;
  std::unique_ptr<Services> services;
  bool idmap = false;    // trees are shown by idmapped mounts, not by copies
  bool resumed = false;  // before: exits are only noted
  std::map<RunId, std::shared_ptr<Preparation>> preparations;
  std::map<JobId, Loop::Timer> pauses;  // before another attempt
  std::set<JobId> starting;             // a plan is being made
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
  bool may_read(const Caller& caller, const RunRow& run) const;
  bool may_act(const Caller& caller, const RunRow& run) const;
  // not_found: there is none, or none that is the caller's business. denied: an admin may act on it,
  // or hear what the queue shows to everybody, but not read what it wrote.
  enum class For { reading, acting };
  Result<Target> find_target(const Caller& caller, const std::string& text,
                             For purpose = For::reading);
  Result<AttemptView> find_attempt(const Caller& caller, const std::string& text,
                                   Target* target = nullptr);
  static std::string target_text(const JobRow& job);
  static std::string task_in_brackets(const std::string& name);
  Json who(JobId job);  // Runs::who
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
  void submit(const Request& request, ResponderPtr responder, Intent intent = Intent::run);
  void snapshot_taken(const std::shared_ptr<Submission>& submission);
  void tell_what_was_lost(const RunRow& run);
  Result<void> record_submission(Submission& submission);
  Result<void> fill_identity(const Caller& caller, RunRow& run);

  // shells.cc
  void submit_shell(const Request& request, ResponderPtr responder);
  void begin_shell(RunRow& run, const Target& target, int attempt);

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
  void consider_after(const JobRow& ended);
  void consider_step(RunRow& run, JobRow job, const std::vector<JobRow>& all);
  // The last success of a step, and what has changed since, in a person's words; none: new.
  struct Verdict {
    std::optional<JobRow> last;
    std::vector<std::string> changed;
    bool stands = false;  // its result counts: it need not run
  };
  Verdict judge_step(const RunRow& run, const spec::Step& step, const Json& key);

  // forecast.cc
  void forecast(const std::shared_ptr<Submission>& submission);
  Json forecast_json(const Submission& submission, const Inspected& inspected);

  // claims.cc
  static constexpr std::size_t kAheadAtOnce = 16;  // looked at when a job is queued
  sched::Claim claim_of(const RunRow& run, const JobRow& job);
  void enqueue(JobRow& job, const std::string& state = "queued");
  void tell_why_it_waits(JobId job);
  std::string why_waits(JobId job, const sched::Outlook& outlook);  // "" where it does not
  std::string why_text(JobId job, const sched::Explanation& why, sched::Time now);

  // accounting.cc
  UsageEntry usage_of(const RunRow& run, const JobRow& job, const AttemptView& attempt);
  void record_usage(const JobRow& job, const AttemptView& attempt, const api::ExitRecord& exit);
  void restore_usage();  // of what has ended; what runs: adopt_usage
  void adopt_usage(const RunRow& run, const JobRow& job, const AttemptView& attempt);
  std::vector<UsageTotal> usage_since(std::int64_t since_ms);
  void usage_routes(Routes& routes);

  // store_quota.cc
  Result<void> check_room(std::uint32_t uid, std::uint64_t more_bytes = 0);
  Json store_use_json();

  // sweep.cc
  void begin_sweep(const RunRow& run, JobRow& job, const spec::Step& step);
  void task_ended(const JobRow& task);
  bool cancel_tasks(JobRow& sweep, const std::string& why);
  std::optional<JobRow> telling_task(const JobRow& sweep);
  std::vector<JobRow> tasks_of(const JobRow& step);
  std::map<std::string, std::string> output_trees(const JobRow& step);  // by step, or by task
  // The steps and tasks that made a model before this step.
  std::vector<JobRow> made_before(const RunRow& run, const spec::Step& step);
  Json task_counts(const JobRow& step);
  Json tasks_json(const RunRow& run, const JobRow& sweep);

  // lanes.cc
  Lanes lanes;
  bool shares_sandbox(const JobRow& task);
  void await_lane(const JobRow& task);
  void look_at_lanes(JobId sweep);  // soon, once
  void feed_lanes();
  void open_lanes(JobId sweep, std::int64_t waiting);
  void feed_lane(Lanes::Lane& lane);
  void rest_lane(Lanes::Lane& lane);
  void hand_task(Lanes::Lane& lane, const JobRow& task);
  std::optional<JobRow> next_waiting(JobId sweep);
  void lane_runs(const JobRow& job, AttemptId attempt);
  void task_left_lane(const AttemptView& attempt, const api::ExitRecord& record);
  void tasks_returned(AttemptId lane, const std::vector<std::pair<AttemptId, JobId>>& tasks);
  void lane_ended(JobRow& job, const AttemptView& attempt, const api::ExitRecord& record,
                  bool reboot);
  void lane_over(const JobRow& job);  // in the transaction that ends its job
  std::vector<JobRow> running_lanes(JobId sweep);
  std::optional<JobId> waiting_lane(JobId sweep);
  static constexpr const char* kWaitsInLine = "waits for its turn in a sandbox that it shares";

  // hold.cc
  Result<void> hold_job(JobRow job, const Caller& caller);
  Result<void> release_job(JobRow job, const Caller& caller);
  static std::string held_text(const JobRow& job);  // "held by anna; loam release 17/train …"
  void hold_routes(Routes& routes);

  // why.cc
  Json waiting_json(const RunRow& run, const JobRow& job, const sched::Outlook& outlook);
  void why_routes(Routes& routes);

  void on_granted(JobId job);
  void start_attempt(JobId job);
  void start_planned(const StartInputs& inputs, Result<api::AttemptPlan> plan);
  StartInputs gather(const RunRow& run, const JobRow& job);
  Result<api::AttemptPlan> make_plan(StartInputs& inputs) const;  // worker
  Result<api::AttemptPlan> plan_of_kind(StartInputs& inputs) const;
  void end_job(JobRow& job, const std::string& state, const std::string& error,
               Json data = Json::object());
  bool cancel_job(JobRow job, const std::string& why);
  void settle(RunId run);
  void step_event(const JobRow& job, Json data);
  std::vector<std::string> cancel_run(RunRow run, const std::string& why);

  // job_devices.cc
  DeviceGrant grant_of(const JobRow& job) const;
  void try_elsewhere(const JobRow& job, const DeviceTrouble& trouble);  // what it was granted is in use
  bool on_device_exit(JobRow& job, AttemptId attempt, const api::ExitRecord& record);
  AttemptId start_with_devices(const StartInputs& inputs, api::AttemptPlan plan,
                               std::function<Result<void>(const std::string&)> prepare_folder);
  void adopt_placement(const RunRow& run, const JobRow& job, const AttemptView& attempt);

  // same_step.cc
  bool waits_for_same_step(const RunRow& run, JobRow& job);
  void wake_same_steps(const JobRow& ended);

  // finish.cc
  void on_running(AttemptId attempt);
  void on_exit(AttemptId attempt, const api::ExitRecord& record, bool reboot);
  std::string last_words(const AttemptView& attempt) const;  // the line of output that mattered
  void finish(JobId job);
  void finished(JobId job, const AttemptView& attempt, Finding& finding);

  // again.cc: what becomes of an attempt that did not succeed
  void on_lost(JobRow& job, bool reboot);
  void attempt_failed(JobRow& job, const AttemptView& attempt, const Finding& finding);
  void attempt_preempted(JobRow& job, const AttemptView& attempt, const Finding& finding);
  void enqueue_later(JobRow& job, std::chrono::milliseconds pause, const std::string& why);

  // preempt.cc
  struct Preemption {
    std::string why;
    bool keeps_place = false;  // the scheduler's: it waits where it stood; else behind who waits
  };
  Result<void> preempt_job(JobRow job, const Preemption& preemption);
  void on_preempt(JobId victim, JobId beneficiary);
  void requeue_preempted(JobRow& job);
  void preempt_routes(Routes& routes);

  // Of steps with `checkpoint:`; the end is that of the job's last attempt, none before the first.
  struct CheckpointPlace {
    std::string folder;  // STATE/checkpoints/JOB
    CheckpointRule rule;
    std::optional<AttemptEnd> last_end;
  };
  std::string checkpoints_of(JobId job) const;  // STATE/checkpoints/JOB
  std::optional<CheckpointPlace> checkpoint_of(const RunRow& run, const JobRow& job);
  std::int64_t last_sign_of_life(const JobRow& job, const AttemptView& attempt) const;

  // full_disk.cc
  void watch_disk();  // while attempts run
  void look_at_writers();
  void end_largest_writer(const std::vector<DiskWriter>& writers);
  bool largest_writer_goes();
  void drop_files(const JobRow& job, const AttemptView& attempt);
  Loop::Timer disk_timer;
  std::optional<AttemptView> ended_for_disk;  // the last one

  // routes
  void run_routes(Routes& routes);
  void model_routes(Routes& routes);
  void file_routes(Routes& routes);
  void trace_routes(Routes& routes);
  void store_routes(Routes& routes);
  enum class Tasks { counted, listed };  // of its sweeps
  Json run_json(const RunRow& run, Tasks tasks);
  // `outlook`: made once for a list; none: made where the job waits.
  Json job_json(const RunRow& run, const JobRow& job, const sched::Outlook* outlook = nullptr);

  // collect.cc
  struct KeepPlan;
  void collect(bool dry_run, ResponderPtr responder);
  void choose(KeepPlan& plan);
  // A pin whose rows are committed; while a collection runs it is kept until the end.
  void release_pin(std::shared_ptr<store::Store::Pin> pin);
  Result<std::shared_ptr<void>> hold_collection();
  bool collecting = false;
  bool closing = false;  // all jobs are being ended for the node's stop: nothing new is taken
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
  std::string shown_checkpoints;  // and the step's checkpoints, at their path below /project
  std::string shown_checkpoint_path;
  std::optional<Runs::Impl::CheckpointPlace> checkpoint;
  Settled settled;           // out: where the last attempt left off
  std::vector<std::string> notes;  // out
  DeviceGrant grant;
  DeviceProbe device_probe;
  Json placement;                        // as the scheduler granted it
  std::optional<DeviceTrouble> trouble;  // out: a granted device cannot be used now
};

// The jobs that a submission makes, in the order of its file; none has an id.
std::vector<JobRow> jobs_for(const RunRow& run, const std::optional<spec::Project>& project);

// What a run is made of besides its snapshot.
struct Inspected {
  Json data;  // as RunRow's
  env::LockFile lock;
};
// On a worker, with the user's rights; nothing but records of the data is kept.
Result<Inspected> inspect(UserHelpers& helpers, store::Store& store, const RunRow& run,
                          const ProjectPtr& project);
// On a worker: fills in where the attempt goes on, and notes what a person should hear of it.
Result<void> resume_checkpoint(StartInputs& inputs, PlanInputs& plan);
UserIds reader_of(const RunRow& run);
UserIds ids_of(const Caller& caller);
// What an attempt printed last, at most `bytes_max`.
std::string output_tail(const std::string& attempt_folder, std::size_t bytes_max);
std::string describe_exit(const api::ExitRecord& record);
Json printable_array(const std::vector<std::string>& foreign);
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
  // 1 where there is any: they are counted where they are fingerprinted.
  std::size_t matches(const std::string& pattern, std::size_t count_max) const override;
  Result<std::string> read(const std::string& relative) const override;
  std::vector<std::string> files_beside(const std::string& relative) const override;

 private:
  std::vector<store::ListingEntry> listing_;
  std::string tree_path_;
  std::set<std::string> matched_;
  bool any_match_;
};

}  // namespace loam::node
