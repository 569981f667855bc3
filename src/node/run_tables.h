// The rows of runs and jobs. Reading a row is a query (20 µs); nothing is cached, so that the
// database is the only truth.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "node/database.h"
#include "node/supervisor.h"

namespace loam::node {

using RunId = std::int64_t;

struct RunRow {
  RunId id = 0;
  std::uint32_t uid = 0;  // who submitted
  std::uint32_t gid = 0;
  Json groups;
  std::string user, home;
  std::uint32_t job_uid = 0;  // whose ids the jobs have
  std::uint32_t job_gid = 0;
  Json job_groups;
  std::string job_user;
  std::uint32_t reader_uid = 0;  // whose rights read the project's folder
  std::uint32_t reader_gid = 0;
  std::string project, folder, file, verb;
  std::string text;                 // the file; "" where there is none
  Json options;                     // force, command
  std::string state = "preparing";  // preparing running serving succeeded failed cancelled
  std::string error;
  std::int64_t created_ms = 0, ended_ms = 0;
  std::string snapshot;  // tree digest
  std::int64_t snapshot_files = 0, snapshot_bytes = 0;
  Json data;  // source → {"digest", "record", "files": […] for patterns of the top folder}
  std::string endpoint;  // "127.0.0.1:8000"
  std::string account = "default";  // whose shares and quota its jobs count against

  bool ended() const { return state == "succeeded" || state == "failed" || state == "cancelled"; }
};

// kind: step lane replica gateway command shell. state: preparing blocked parked queued preempted
// running finishing succeeded failed cancelled unchanged skipped; finishing (an attempt has ended,
// its output is being taken in) is shown as running; preempted is queued again; parked is a
// service's replica that its load does not need now (elastic.cc); one that waits and is held is
// shown as held.
struct JobRow {
  JobId id = 0;
  RunId run = 0;
  std::string name, kind, state = "preparing", error, why;
  std::int64_t cpu_milli = 0, memory_bytes = 0;
  std::string service;  // replica: the service's name
  std::string env;      // env digest
  Json key;             // staleness key, or what a replica is made of
  std::string record;   // run record, or the last attempt's replica record
  std::string model;    // the model made or served, "" for none
  std::int64_t version = 0;
  std::string tree;  // its tree
  JobId source = 0;  // unchanged: the job whose result counts; shell: the job that is shown
  std::int64_t source_attempt = 0;  // shell: which of its attempts
  std::int64_t failures = 0;        // failed attempts
  std::int64_t lost = 0;            // in a row within `lost_boot`
  std::string lost_boot;
  bool cancel = false;        // somebody asked for its end
  std::string preempt;        // why the running attempt is to make room, "" where it is not; of a
                              // replica: it is given back
  bool keeps_place = false;   // in the queue, once it has
  std::int64_t preemptions = 0;
  std::string checkpoint;     // name of the one that the last attempt resumed from
  std::int64_t endpoint = 0;  // replica, gateway
  std::int64_t created_ms = 0, ended_ms = 0;
  Json request;  // pinning, huge pages, devices (job_request.h)
  std::string held;  // who keeps it from starting (hold.cc), "" for nobody
  std::int64_t tasks = 0;  // of a sweep's step: how many it has; it has no attempts of its own (sweep.cc)
  JobId sweep = 0;         // of a task or lane (lanes.cc): its step's job; of a task the five below
  std::int64_t task = 0;   // 1, 2, …
  std::string step;        // the step's name
  Json params;             // its own, over the step's
  Json metrics;            // of its last attempt that has ended: {"loss": {"count", "last"}}

  bool ended() const;
  bool in_queue() const { return state == "queued" || state == "preempted"; }
  bool parked() const { return state == "parked"; }
  bool waits() const {
    return state == "preparing" || state == "blocked" || parked() || in_queue();
  }
  bool runs() const { return state == "running" || state == "finishing"; }
  std::string shown_state() const;
  const std::string& step_name() const { return step.empty() ? name : step; }
};

// Of an SQL condition.
inline constexpr const char* kOpenJob =
    "state NOT IN ('succeeded','failed','cancelled','unchanged','skipped')";

class RunTables {
 public:
  explicit RunTables(Database& database) : database_(database) {}

  RunId insert(const RunRow& run);
  void save(const RunRow& run);
  std::optional<RunRow> run(RunId id);
  std::vector<RunRow> runs(const std::string& where, const std::vector<Value>& values = {});

  JobId insert(const JobRow& job);
  void save(const JobRow& job);
  std::optional<JobRow> job(JobId id);
  std::vector<JobRow> jobs(const std::string& where, const std::vector<Value>& values = {});
  std::int64_t count(const std::string& where, const std::vector<Value>& values = {});  // of jobs
  std::vector<JobRow> jobs_of(RunId run);
  std::vector<JobRow> parts_of(RunId run);  // its jobs without the tasks of sweeps
  std::vector<JobRow> tasks_of(JobId sweep);
  bool has_open_task(JobId sweep);
  std::map<std::string, std::int64_t> task_states(JobId sweep);  // how many are in each
  std::optional<JobRow> first_failed(JobId sweep);
  // The newest job that succeeded for this user, folder and step.
  std::optional<JobRow> last_success(const RunRow& run, const std::string& step);
  // Another run's job for this job's step of this user and folder, with the same key, that has been
  // queued and has not ended; the oldest.
  std::optional<JobRow> same_step_under_way(const RunRow& run, const JobRow& job);

  void remember_record(
      RunId run, const std::string& digest);  // a root of garbage collection while the run is kept
  std::vector<std::string> records_of(RunId run);
  void remove_run(RunId run);

 private:
  Database& database_;
};

}  // namespace loam::node
