// Garbage collection by `keep:` (DESIGN, "The file").
//
//   loop: which runs, versions, attempts stay ─ rows go ─ commit ─▶ worker: folders go, records are
//   followed, Store::collect with what is reachable
//
// Reachable: snapshots and records of kept runs, kept versions with everything that their records
// name, and the environments used last. A node that dies in between leaves folders without a row,
// which the next collection finds.
#include <algorithm>
#include <charconv>

#include "base/clock.h"
#include "base/files.h"
#include "base/text.h"
#include "node/findings.h"
#include "node/runs_impl.h"
#include "node/services.h"
#include "trace/records.h"

namespace loam::node {

struct Runs::Impl::KeepPlan {
  bool dry_run = false;
  store::Roots roots;
  std::vector<OwnedTree> kept_versions;  // records to follow
  std::vector<OwnedTree> owned;          // oldest first, once all is chosen
  BytesByUser use_before, use;
  std::vector<std::string> folders;   // to remove
  std::vector<AttemptId> attempts;    // whose folders go
  std::uint64_t removed_runs = 0, removed_versions = 0, freed_bytes = 0;
  std::shared_ptr<void> held;              // no other collection meanwhile
  std::shared_ptr<store::Store::Pin> pin;  // what is put from now on stays
  Result<store::GarbageReport> report = store::GarbageReport{};
};

namespace {

void add_tree(store::Roots& roots, const std::string& hex) {
  if (const auto digest = Digest::parse(hex)) roots.trees.insert(*digest);
}

void add_blob(store::Roots& roots, const std::string& hex) {
  if (const auto digest = Digest::parse(hex)) roots.blobs.insert(*digest);
}

// A kept version stays whole: its records, the code and the environment that it was made with.
void follow_version(const store::Store& store, const OwnedTree& version, store::Roots& roots,
                    std::vector<OwnedTree>& owned) {
  const auto& [uid, record] = version;
  roots.blobs.insert(record);
  const auto layers = trace::follow(store, record);
  if (!layers) return;
  for (const trace::Layer& layer : *layers) {
    add_blob(roots, layer.digest);
    add_tree(roots, layer.record["tree"].as_string());
    if (const auto tree = Digest::parse(layer.record["tree"].as_string());
        tree && layer.kind != "env")
      owned.emplace_back(uid, *tree);
    if (layer.kind == "env")
      for (const char* key : {"lock", "section", "env"})
        if (layer.record[key].is_object()) env::add_roots(layer.record[key], roots);
  }
}

// "12-3" (a work folder) or "12" (checkpoints) → 12.
std::int64_t job_of_folder(const std::string& name) {
  std::int64_t job = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), job);
  const bool whole = end == name.data() + name.size() || *end == '-';
  return error == std::errc() && whole ? job : 0;
}

template <class T>
void sort_out(std::vector<T>& values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
}

// One pass over all rows: what stays becomes a root, what goes is listed.
class Chooser {
 public:
  Chooser(Runs::Impl& impl, Runs::Impl::KeepPlan& plan) : impl_(impl), plan_(plan) {}

  void runs() {
    for (const Row& row : impl_.node.db.query(
             "SELECT jobs.run, max(jobs.id) FROM jobs JOIN runs ON runs.id=jobs.run WHERE "
             "jobs.kind='step' AND "
             "jobs.state='succeeded' AND jobs.sweep=0 GROUP BY runs.uid, runs.folder, jobs.name"))
      results_.insert(row.integer(0));
    std::map<Project, int> counted;
    for (const RunRow& run : impl_.tables.runs("1 ORDER BY id DESC")) {
      const spec::Keep keep = keep_of(run);
      const auto jobs = impl_.tables.jobs_of(run.id);
      const bool live =
          run.state == "preparing" || run.state == "running" || run.state == "serving" ||
          std::any_of(jobs.begin(), jobs.end(), [](const JobRow& job) { return !job.ended(); });
      if (!live && ++counted[{run.uid, run.project}] > keep.runs && !results_.contains(run.id))
        drop(run, jobs);
      else
        hold(run, jobs, keep);
    }
  }

  void versions() {
    std::map<Project, int> counted;
    auto all = impl_.models.everybodys();
    std::reverse(all.begin(), all.end());  // newest first
    for (const ModelVersion& version : all) {
      const auto keep = keeps_.find({version.uid, version.project});
      const int limit = keep == keeps_.end() ? spec::Keep{}.versions : keep->second.versions;
      if (++counted[{version.uid, version.name}] <= limit ||
          impl_.services->serves(version.uid, version.name, version.version)) {
        own(version.uid, version.tree);
        if (const auto record = Digest::parse(version.record))
          plan_.kept_versions.emplace_back(version.uid, *record);
        continue;
      }
      ++plan_.removed_versions;
      if (!plan_.dry_run) impl_.models.remove(version);
    }
  }

  void environments() {
    for (const std::string& digest : impl_.envs.newest(kEnvsKept)) hold_env(digest);
  }

  // Folders that a collection before this one did not get to.
  void leftovers() {
    const std::string& outputs = impl_.node.context.paths.outputs;
    const auto works = list_folder(outputs);
    for (const std::string& name : works ? *works : std::vector<std::string>{})
      if (const std::int64_t job = job_of_folder(name); job != 0 && !impl_.tables.job(job))
        plan_.folders.push_back(outputs + "/" + name);
    const std::string& checkpoints = impl_.node.context.paths.checkpoints;
    const auto kept = list_folder(checkpoints);
    for (const std::string& name : kept ? *kept : std::vector<std::string>{})
      if (!impl_.tables.job(job_of_folder(name))) plan_.folders.push_back(checkpoints + "/" + name);
    for (const Row& row : impl_.node.db.query(
             "SELECT id FROM attempts WHERE state='ended' AND job NOT IN (SELECT id FROM jobs)"))
      if (path_exists(impl_.node.supervisor.folder_of(row.integer(0))))
        plan_.attempts.push_back(row.integer(0));
  }

 private:
  using Project = std::pair<std::uint32_t, std::string>;

  // What the newest run of the project says.
  spec::Keep keep_of(const RunRow& run) {
    const Project key(run.uid, run.project);
    if (!keeps_.contains(key) && !run.text.empty()) {
      const auto read = spec::read_project(run.text, nullptr);
      if (read.project) keeps_[key] = read.project->keep;
    }
    return keeps_.contains(key) ? keeps_[key] : spec::Keep{};
  }

  void drop(const RunRow& run, const std::vector<JobRow>& jobs) {
    ++plan_.removed_runs;
    for (const JobRow& job : jobs) {
      for (const AttemptView& attempt : impl_.node.supervisor.attempts_of(job.id))
        list(job, attempt);
      plan_.folders.push_back(impl_.checkpoints_of(job.id));
    }
    if (plan_.dry_run) return;
    impl_.events.remove(run.id);
    impl_.tables.remove_run(run.id);
    impl_.projects.erase(run.id);
  }

  void hold(const RunRow& run, const std::vector<JobRow>& jobs, const spec::Keep& keep) {
    own(run.uid, run.snapshot);
    for (const auto& [name, kept] : run.data.as_object())
      add_blob(plan_.roots, kept["record"].as_string());
    for (const std::string& record : impl_.tables.records_of(run.id)) add_blob(plan_.roots, record);
    const auto age_ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(keep.attempts).count();
    for (const JobRow& job : jobs) {
      if (!job.env.empty()) hold_env(job.env);
      if (!job.ended()) {
        own(run.uid, job.tree);
        continue;
      }
      if (const std::string folder = impl_.checkpoints_of(job.id);
          now_ms_ - job.ended_ms > age_ms && path_exists(folder))
        plan_.folders.push_back(folder);
      for (const AttemptView& attempt : impl_.node.supervisor.attempts_of(job.id))
        if (attempt.state == "ended" && now_ms_ - attempt.ended_ms > age_ms &&
            path_exists(impl_.node.supervisor.folder_of(attempt.id)))
          list(job, attempt);
    }
  }

  void own(std::uint32_t uid, const std::string& tree) {
    add_tree(plan_.roots, tree);
    if (const auto digest = Digest::parse(tree)) plan_.owned.emplace_back(uid, *digest);
  }

  void hold_env(const std::string& digest) {
    const auto env = impl_.envs.find(digest);
    if (!env) return;
    env::add_roots(env->section, plan_.roots);
    add_tree(plan_.roots, env->tree);
  }

  void list(const JobRow& job, const AttemptView& attempt) {
    plan_.attempts.push_back(attempt.id);
    plan_.folders.push_back(impl_.work_of(job, attempt.number));
  }

  Runs::Impl& impl_;
  Runs::Impl::KeepPlan& plan_;
  const std::int64_t now_ms_ = wall_ms();
  std::map<Project, spec::Keep> keeps_;
  std::set<RunId> results_;  // whose outcome `loam up` compares with
};

}  // namespace

// Decides and, unless it is a rehearsal, takes the rows away. On the loop.
void Runs::Impl::choose(KeepPlan& plan) {
  Chooser chooser(*this, plan);
  chooser.runs();
  chooser.versions();
  chooser.environments();
  chooser.leftovers();
  sort_out(plan.folders);
  sort_out(plan.attempts);
  std::reverse(plan.owned.begin(), plan.owned.end());  // chosen newest first
  plan.use_before = store_use.all();
}

void Runs::Impl::release_pin(std::shared_ptr<store::Store::Pin> pin) {
  if (collecting)
    held_pins.push_back(std::move(pin));  // its rows are younger than the collection's roots
}

Result<std::shared_ptr<void>> Runs::Impl::hold_collection() {
  if (collecting)
    return fail(ErrorCode::busy, "the store is being collected or backed up: try again afterwards");
  collecting = true;
  return std::shared_ptr<void>(nullptr, [this](void*) {
    collecting = false;
    held_pins.clear();
  });
}

void Runs::Impl::collect(bool dry_run, ResponderPtr responder) {
  auto held = hold_collection();
  if (!held) return responder->reply_error(held.error());
  auto plan = std::make_shared<KeepPlan>();
  plan->held = std::move(*held);
  plan->dry_run = dry_run;
  plan->pin = node.store.pin();
  choose(*plan);
  const auto work = [this, plan] {
    for (const std::string& folder : plan->folders) {
      plan->freed_bytes += folder_bytes(folder, ~std::uint64_t{0} >> 1);
      if (!plan->dry_run) (void)remove_tree(folder);
    }
    for (const OwnedTree& version : plan->kept_versions)
      follow_version(node.store, version, plan->roots, plan->owned);
    plan->report = node.store.collect(plan->roots, plan->dry_run);
    if (!plan->dry_run) plan->use = count_owned(node.store, plan->owned);
  };
  const auto done = [this, plan, responder] {
    plan->held.reset();
    std::uint64_t removed_attempts = 0;
    for (const AttemptId attempt : plan->attempts)
      if (plan->dry_run || node.supervisor.remove_folder(attempt)) ++removed_attempts;
    if (!plan->report) return responder->reply_error(plan->report.error());
    if (!plan->dry_run) store_use.replace(plan->use, plan->use_before);
    responder->reply(
        200, Json::object({{"removed_trees", plan->report->removed_trees},
                           {"removed_objects", plan->report->removed_objects},
                           {"removed_blobs", plan->report->removed_blobs},
                           {"removed_runs", plan->removed_runs},
                           {"removed_versions", plan->removed_versions},
                           {"removed_attempts", removed_attempts},
                           {"freed_bytes", plan->report->freed_bytes + plan->freed_bytes},
                           {"foreign", printable_array(plan->report->foreign)}}));
  };
  node.db.after_commit([this, work, done] { node.loop.offload(work, done); });
}

}  // namespace loam::node
