#include "node/run_tables.h"

namespace loam::node {
namespace {

constexpr const char* kRunColumns =
    "uid, gid, groups, user, home, job_uid, job_gid, job_groups, job_user, reader_uid, reader_gid, "
    "project, folder, "
    "file, verb, text, options, state, error, created_ms, ended_ms, snapshot, snapshot_files, "
    "snapshot_bytes, data, "
    "endpoint, account";
constexpr const char* kJobColumns =
    "run, name, kind, state, error, why, cpu_milli, memory_bytes, service, env, key, record, "
    "model, version, tree, "
    "source, source_attempt, failures, lost, lost_boot, cancel, preempt, keeps_place, preemptions, checkpoint, "
    "endpoint, created_ms, ended_ms, request, held, tasks, sweep, task, step, params, metrics";

std::vector<Value> values_of(const RunRow& r) {
  return {std::int64_t{r.uid},
          std::int64_t{r.gid},
          r.groups.dump(),
          r.user,
          r.home,
          std::int64_t{r.job_uid},
          std::int64_t{r.job_gid},
          r.job_groups.dump(),
          r.job_user,
          std::int64_t{r.reader_uid},
          std::int64_t{r.reader_gid},
          r.project,
          r.folder,
          r.file,
          r.verb,
          r.text,
          r.options.dump(),
          r.state,
          r.error,
          r.created_ms,
          r.ended_ms,
          r.snapshot,
          r.snapshot_files,
          r.snapshot_bytes,
          r.data.dump(),
          r.endpoint,
          r.account};
}

std::vector<Value> values_of(const JobRow& j) {
  return {j.run,       j.name,           j.kind,
          j.state,     j.error,          j.why,
          j.cpu_milli, j.memory_bytes,   j.service,
          j.env,       j.key.dump(),     j.record,
          j.model,     j.version,        j.tree,
          j.source,    j.source_attempt, j.failures,
          j.lost,      j.lost_boot,      std::int64_t{j.cancel ? 1 : 0},
          j.preempt,   std::int64_t{j.keeps_place ? 1 : 0},
          j.preemptions, j.checkpoint,
          j.endpoint,  j.created_ms,     j.ended_ms,
          j.request.dump(), j.held,
          j.tasks,          j.sweep,            j.task,
          j.step,           j.params.dump(),    j.metrics.dump()};
}

std::uint32_t id_of(const Row& row, std::size_t column) {
  return static_cast<std::uint32_t>(row.integer(column));
}

RunRow run_from(const Row& row) {
  RunRow r;
  std::size_t c = 0;
  r.id = row.integer(c++);
  r.uid = id_of(row, c++);
  r.gid = id_of(row, c++);
  r.groups = row.json(c++);
  r.user = row.text(c++);
  r.home = row.text(c++);
  r.job_uid = id_of(row, c++);
  r.job_gid = id_of(row, c++);
  r.job_groups = row.json(c++);
  r.job_user = row.text(c++);
  r.reader_uid = id_of(row, c++);
  r.reader_gid = id_of(row, c++);
  r.project = row.text(c++);
  r.folder = row.text(c++);
  r.file = row.text(c++);
  r.verb = row.text(c++);
  r.text = row.text(c++);
  r.options = row.json(c++);
  r.state = row.text(c++);
  r.error = row.text(c++);
  r.created_ms = row.integer(c++);
  r.ended_ms = row.integer(c++);
  r.snapshot = row.text(c++);
  r.snapshot_files = row.integer(c++);
  r.snapshot_bytes = row.integer(c++);
  r.data = row.json(c++);
  r.endpoint = row.text(c++);
  r.account = row.text(c++);
  return r;
}

JobRow job_from(const Row& row) {
  JobRow j;
  std::size_t c = 0;
  j.id = row.integer(c++);
  j.run = row.integer(c++);
  j.name = row.text(c++);
  j.kind = row.text(c++);
  j.state = row.text(c++);
  j.error = row.text(c++);
  j.why = row.text(c++);
  j.cpu_milli = row.integer(c++);
  j.memory_bytes = row.integer(c++);
  j.service = row.text(c++);
  j.env = row.text(c++);
  j.key = row.json(c++);
  j.record = row.text(c++);
  j.model = row.text(c++);
  j.version = row.integer(c++);
  j.tree = row.text(c++);
  j.source = row.integer(c++);
  j.source_attempt = row.integer(c++);
  j.failures = row.integer(c++);
  j.lost = row.integer(c++);
  j.lost_boot = row.text(c++);
  j.cancel = row.integer(c++) != 0;
  j.preempt = row.text(c++);
  j.keeps_place = row.integer(c++) != 0;
  j.preemptions = row.integer(c++);
  j.checkpoint = row.text(c++);
  j.endpoint = row.integer(c++);
  j.created_ms = row.integer(c++);
  j.ended_ms = row.integer(c++);
  j.request = row.json(c++);
  j.held = row.text(c++);
  j.tasks = row.integer(c++);
  j.sweep = row.integer(c++);
  j.task = row.integer(c++);
  j.step = row.text(c++);
  j.params = row.json(c++);
  j.metrics = row.json(c++);
  return j;
}

// "a, b" → "?,?" or "a=?, b=?".
std::string marks(std::string_view columns, bool named) {
  std::string text;
  for (std::size_t begin = 0; begin < columns.size();) {
    std::size_t end = columns.find(',', begin);
    if (end == std::string_view::npos) end = columns.size();
    std::string_view name = columns.substr(begin, end - begin);
    while (!name.empty() && name.front() == ' ') name.remove_prefix(1);
    if (!text.empty()) text += ",";
    text += named ? std::string(name) + "=?" : "?";
    begin = end + 1;
  }
  return text;
}

}  // namespace

bool JobRow::ended() const { return !waits() && !runs(); }

std::string JobRow::shown_state() const {
  if (waits() && !held.empty()) return "held";
  return state == "finishing" ? "running" : state;
}

RunId RunTables::insert(const RunRow& run) {
  return database_.insert(std::string("INSERT INTO runs(") + kRunColumns + ") VALUES(" +
                              marks(kRunColumns, false) + ")",
                          values_of(run));
}

void RunTables::save(const RunRow& run) {
  auto values = values_of(run);
  values.emplace_back(run.id);
  database_.write("UPDATE runs SET " + marks(kRunColumns, true) + " WHERE id=?", values);
}

std::vector<RunRow> RunTables::runs(const std::string& where, const std::vector<Value>& values) {
  std::vector<RunRow> found;
  for (const Row& row : database_.query(
           std::string("SELECT id, ") + kRunColumns + " FROM runs WHERE " + where, values))
    found.push_back(run_from(row));
  return found;
}

std::optional<RunRow> RunTables::run(RunId id) {
  auto found = runs("id=?", {id});
  if (found.empty()) return std::nullopt;
  return std::move(found.front());
}

JobId RunTables::insert(const JobRow& job) {
  return database_.insert(std::string("INSERT INTO jobs(") + kJobColumns + ") VALUES(" +
                              marks(kJobColumns, false) + ")",
                          values_of(job));
}

void RunTables::save(const JobRow& job) {
  auto values = values_of(job);
  values.emplace_back(job.id);
  database_.write("UPDATE jobs SET " + marks(kJobColumns, true) + " WHERE id=?", values);
}

std::vector<JobRow> RunTables::jobs(const std::string& where, const std::vector<Value>& values) {
  std::vector<JobRow> found;
  for (const Row& row : database_.query(
           std::string("SELECT id, ") + kJobColumns + " FROM jobs WHERE " + where, values))
    found.push_back(job_from(row));
  return found;
}

std::optional<JobRow> RunTables::job(JobId id) {
  auto found = jobs("id=?", {id});
  if (found.empty()) return std::nullopt;
  return std::move(found.front());
}

std::int64_t RunTables::count(const std::string& where, const std::vector<Value>& values) {
  return database_.query("SELECT COUNT(*) FROM jobs WHERE " + where, values)[0].integer(0);
}

std::vector<JobRow> RunTables::jobs_of(RunId run) { return jobs("run=? ORDER BY id", {run}); }

std::vector<JobRow> RunTables::parts_of(RunId run) {
  return jobs("run=? AND sweep=0 ORDER BY id", {run});
}

// `sweep<>0` in words: without it SQLite does not take the index, which is of tasks only.
std::vector<JobRow> RunTables::tasks_of(JobId sweep) {
  return jobs("sweep=? AND sweep<>0 AND kind='step' ORDER BY id", {sweep});
}

// As jobs_open_tasks has it, word for word.
bool RunTables::has_open_task(JobId sweep) {
  return !database_
              .query("SELECT 1 FROM jobs WHERE sweep=? AND sweep<>0 AND kind='step' AND " +
                         std::string(kOpenJob) + " LIMIT 1",
                     {sweep})
              .empty();
}

std::map<std::string, std::int64_t> RunTables::task_states(JobId sweep) {
  std::map<std::string, std::int64_t> states;
  for (const Row& row : database_.query(
           "SELECT state, count(*) FROM jobs WHERE sweep=? AND sweep<>0 AND kind='step' GROUP BY state", {sweep}))
    states[row.text(0)] = row.integer(1);
  return states;
}

std::optional<JobRow> RunTables::first_failed(JobId sweep) {
  auto found = jobs("sweep=? AND sweep<>0 AND kind='step' AND state='failed' ORDER BY id LIMIT 1", {sweep});
  return found.empty() ? std::nullopt : std::optional(std::move(found[0]));
}

std::optional<JobRow> RunTables::last_success(const RunRow& run, const std::string& step) {
  auto found = jobs(
      "kind='step' AND state='succeeded' AND name=? AND run IN (SELECT id FROM runs WHERE uid=? "
      "AND folder=?) "
      "ORDER BY id DESC LIMIT 1",
      {step, std::int64_t{run.uid}, run.folder});
  if (found.empty()) return std::nullopt;
  return std::move(found.front());
}

std::optional<JobRow> RunTables::same_step_under_way(const RunRow& run, const JobRow& job) {
  auto found = jobs(
      "kind='step' AND state IN ('queued','running','finishing') AND name=? AND run<>? AND key=? "
      "AND run IN (SELECT id FROM runs WHERE uid=? AND folder=?) ORDER BY id LIMIT 1",
      {job.name, job.run, job.key.dump(), std::int64_t{run.uid}, run.folder});
  if (found.empty()) return std::nullopt;
  return std::move(found.front());
}

void RunTables::remember_record(RunId run, const std::string& digest) {
  if (!digest.empty())
    database_.write("INSERT OR IGNORE INTO run_records(run, digest) VALUES(?,?)", {run, digest});
}

std::vector<std::string> RunTables::records_of(RunId run) {
  std::vector<std::string> digests;
  for (const Row& row :
       database_.query("SELECT digest FROM run_records WHERE run=? ORDER BY digest", {run}))
    digests.push_back(row.text(0));
  return digests;
}

void RunTables::remove_run(RunId run) {
  database_.write("DELETE FROM jobs WHERE run=?", {run});
  database_.write("DELETE FROM run_records WHERE run=?", {run});
  database_.write("DELETE FROM runs WHERE id=?", {run});
}

}  // namespace loam::node
