#include "node/migrations.h"

namespace loam::node {

// To add a table, an index or a column, append an entry at the end:
//
//     {"fair share",
//      {"ALTER TABLE runs ADD COLUMN account TEXT",
//       "CREATE TABLE usage(uid INTEGER PRIMARY KEY, cpu_ms INTEGER NOT NULL)"}},
//
// and no more: a new database runs all entries, an old one those that it lacks (database.h). An
// entry that has landed is never changed, moved or taken out, for databases exist that have seen
// it. Rows of before have NULL in an added column, which Row reads as 0, "" and null, or give it a
// DEFAULT.
const std::vector<Migration>& migrations() {
  static const std::vector<Migration> kMigrations = {
      {"the first format",
       {
           // Single facts, such as the cgroup parents and the boot that they were found in
           // (bootstrap.h).
           "CREATE TABLE node_facts(name TEXT PRIMARY KEY, value TEXT NOT NULL)",

           // supervisor.h. number: 1, 2, … of its job. state: starting, running, ended. boot: of
           // its start. cgroup: the parents of its group, as they were at its start. exit: the exit
           // record, written once.
           "CREATE TABLE attempts(id INTEGER PRIMARY KEY AUTOINCREMENT, job INTEGER NOT NULL, "
           "number INTEGER NOT NULL, state TEXT NOT NULL, boot TEXT NOT NULL, cgroup TEXT NOT "
           "NULL, "
           "created_ms INTEGER NOT NULL, started_ms INTEGER, ended_ms INTEGER, exit TEXT, "
           "UNIQUE(job, number))",
           "CREATE INDEX attempts_open ON attempts(state) WHERE state <> 'ended'",

           // run_tables.h
           "CREATE TABLE runs(id INTEGER PRIMARY KEY AUTOINCREMENT, uid INTEGER, gid INTEGER, "
           "groups TEXT, user TEXT, home TEXT, job_uid INTEGER, job_gid INTEGER, job_groups TEXT, "
           "job_user TEXT, reader_uid INTEGER, reader_gid INTEGER, project TEXT, folder TEXT, "
           "file TEXT, verb TEXT, text TEXT, options TEXT, state TEXT, error TEXT, "
           "created_ms INTEGER, ended_ms INTEGER, snapshot TEXT, snapshot_files INTEGER, "
           "snapshot_bytes INTEGER, data TEXT, endpoint TEXT)",
           "CREATE INDEX runs_folder ON runs(uid, folder)",
           "CREATE INDEX runs_state ON runs(state)",
           "CREATE TABLE jobs(id INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER, name TEXT, "
           "kind TEXT, state TEXT, error TEXT, why TEXT, cpu_milli INTEGER, memory_bytes INTEGER, "
           "service TEXT, env TEXT, key TEXT, record TEXT, model TEXT, version INTEGER, tree TEXT, "
           "source INTEGER, source_attempt INTEGER, failures INTEGER, lost INTEGER, lost_boot "
           "TEXT, "
           "cancel INTEGER, endpoint INTEGER, created_ms INTEGER, ended_ms INTEGER)",
           "CREATE INDEX jobs_run ON jobs(run)",
           "CREATE INDEX jobs_state ON jobs(state)",
           "CREATE TABLE run_records(run INTEGER, digest TEXT, PRIMARY KEY(run, digest))",

           // run_events.h
           "CREATE TABLE run_events(seq INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, "
           "kind TEXT NOT NULL, data TEXT NOT NULL)",
           "CREATE INDEX run_events_run ON run_events(run, seq)",

           // models.h
           "CREATE TABLE models(uid INTEGER, name TEXT, last_version INTEGER, PRIMARY KEY(uid, "
           "name))",
           "CREATE TABLE versions(uid INTEGER, name TEXT, version INTEGER, record TEXT, tree TEXT, "
           "size_bytes INTEGER, created_ms INTEGER, run INTEGER, step TEXT, imported TEXT, "
           "project TEXT, PRIMARY KEY(uid, name, version))",

           // envs.h
           "CREATE TABLE envs(digest TEXT PRIMARY KEY, section TEXT, tree TEXT, used_ms INTEGER)",
           "CREATE INDEX envs_section ON envs(section)",

           // services.h
           "CREATE TABLE endpoints(id INTEGER PRIMARY KEY AUTOINCREMENT, uid INTEGER, project "
           "TEXT, "
           "folder TEXT, listen TEXT, run INTEGER, gateway INTEGER, active INTEGER, listened "
           "INTEGER, "
           "UNIQUE(uid, project))",
       }},
      {"preemption and checkpoints",
       {"ALTER TABLE jobs ADD COLUMN preempt TEXT",
        "ALTER TABLE jobs ADD COLUMN keeps_place INTEGER",
        "ALTER TABLE jobs ADD COLUMN preemptions INTEGER",
        "ALTER TABLE jobs ADD COLUMN checkpoint TEXT"}},
      {"devices",
       {
           // jobs: what is asked for besides CPUs and memory (job_request.h). attempts: the
           // scheduler's placement of its process (device_units.h), written with the attempt.
           "ALTER TABLE jobs ADD COLUMN request TEXT",
           "ALTER TABLE attempts ADD COLUMN placement TEXT",
           "CREATE TABLE device_drains(device TEXT PRIMARY KEY, reason TEXT NOT NULL, "
           "who TEXT NOT NULL, since_ms INTEGER NOT NULL)",
       }},
      {"holds", {"ALTER TABLE jobs ADD COLUMN held TEXT"}},
      {"accounts", {"ALTER TABLE runs ADD COLUMN account TEXT NOT NULL DEFAULT 'default'"}},
      {"usage",
       {
           // usage.h. What ended attempts held, added up with their ends; of its own, so that it
           // stays when the runs go. rate_ms: thousandths of points an hour, by the weights that
           // were in force, times milliseconds.
           "CREATE TABLE usage(to_ms INTEGER NOT NULL, from_ms INTEGER NOT NULL, account TEXT NOT "
           "NULL, user TEXT NOT NULL, devices TEXT NOT NULL, attempts INTEGER NOT NULL, held_ms "
           "INTEGER NOT NULL, cpu_milli_ms INTEGER NOT NULL, memory_mib_ms INTEGER NOT NULL, "
           "rate_ms INTEGER NOT NULL, PRIMARY KEY(to_ms, from_ms, account, user, devices)) WITHOUT "
           "ROWID",
       }},
      {"tokens",
       {
           // tokens.h. hash: SHA-256 of the secret part. Numbers are never used again: what was
           // revoked stays so.
           "CREATE TABLE tokens(id INTEGER PRIMARY KEY AUTOINCREMENT, uid INTEGER NOT NULL, name "
           "TEXT NOT NULL, scope TEXT NOT NULL, hash TEXT NOT NULL, created_ms INTEGER NOT NULL, "
           "expires_ms INTEGER NOT NULL, used_ms INTEGER NOT NULL, UNIQUE(uid, name))",
       }},
      {"sweeps",
       {
           // A sweep's step: how many tasks. A task: its step's job, number and parameters, and
           // what its last attempt logged.
           "ALTER TABLE jobs ADD COLUMN tasks INTEGER NOT NULL DEFAULT 0",
           "ALTER TABLE jobs ADD COLUMN sweep INTEGER NOT NULL DEFAULT 0",
           "ALTER TABLE jobs ADD COLUMN task INTEGER NOT NULL DEFAULT 0",
           "ALTER TABLE jobs ADD COLUMN step TEXT NOT NULL DEFAULT ''",
           "ALTER TABLE jobs ADD COLUMN params TEXT NOT NULL DEFAULT 'null'",
           "ALTER TABLE jobs ADD COLUMN metrics TEXT NOT NULL DEFAULT 'null'",
           "CREATE INDEX jobs_apart ON jobs(run) WHERE sweep=0",
           "CREATE INDEX jobs_by_sweep ON jobs(sweep) WHERE sweep<>0",
       }},
      // Whom a token stands for: his number may become another's.
      {"users of tokens", {"ALTER TABLE tokens ADD COLUMN user TEXT NOT NULL DEFAULT ''"}},
      // store_use.h.
      {"store use", {"CREATE TABLE store_use(uid INTEGER PRIMARY KEY, bytes INTEGER NOT NULL)"}},
      {"lanes",
       {
           // Of a lane's attempt its own id, of a task's attempt in it that of the lane's.
           "ALTER TABLE attempts ADD COLUMN lane INTEGER NOT NULL DEFAULT 0",
           "CREATE INDEX attempts_in_lanes ON attempts(lane) WHERE lane<>0 AND state<>'ended'",
           // For the question after each task's end whether it was the last (RunTables::has_open_task).
           "CREATE INDEX jobs_open_tasks ON jobs(sweep) WHERE sweep<>0 AND kind='step' AND "
           "state NOT IN ('succeeded','failed','cancelled','unchanged','skipped')",
       }},
  };
  return kMigrations;
}

}  // namespace loam::node
