// What the store holds and why, its verification, and garbage collection by `keep:` (DESIGN, "The
// file").
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
  std::vector<Digest> kept_versions;  // records to follow
  std::vector<std::string> folders;   // to remove
  std::vector<AttemptId> attempts;    // whose folders go
  std::uint64_t removed_runs = 0, removed_versions = 0, freed_bytes = 0;
  std::shared_ptr<store::Store::Pin> pin;  // what is put from now on stays
  Result<store::GarbageReport> report = store::GarbageReport{};
};

namespace {

constexpr std::size_t kEnvsKept = 100;

void add_tree(store::Roots& roots, const std::string& hex) {
  if (const auto digest = Digest::parse(hex)) roots.trees.insert(*digest);
}

void add_blob(store::Roots& roots, const std::string& hex) {
  if (const auto digest = Digest::parse(hex)) roots.blobs.insert(*digest);
}

// A kept version stays whole: its records, the code and the environment that it was made with.
void follow_version(const store::Store& store, const Digest& record, store::Roots& roots) {
  roots.blobs.insert(record);
  const auto layers = trace::follow(store, record);
  if (!layers) return;
  for (const trace::Layer& layer : *layers) {
    add_blob(roots, layer.digest);
    add_tree(roots, layer.record["tree"].as_string());
    if (layer.kind == "env")
      for (const char* key : {"lock", "section", "env"})
        if (layer.record[key].is_object()) env::add_roots(layer.record[key], roots);
  }
}

// "12-3" → 12.
std::int64_t job_of_work(const std::string& name) {
  std::int64_t job = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), job);
  return error == std::errc() && end != name.data() + name.size() && *end == '-' ? job : 0;
}

struct Verification {
  ResponderPtr responder;
  bool gone = false;
  Result<std::vector<store::Damage>> damage = std::vector<store::Damage>{};
};

struct StoreView {
  std::vector<Json> items;
  store::Usage usage;
  std::string error;
};

}  // namespace

// Decides and, unless it is a rehearsal, takes the rows away. On the loop.
void Runs::Impl::choose(KeepPlan& plan) {
  std::map<std::pair<std::uint32_t, std::string>, spec::Keep> keeps;
  std::map<std::pair<std::uint32_t, std::string>, int> counted;
  std::set<RunId> results;  // whose outcome `loam up` compares with
  for (const Row& row :
       node.db.query("SELECT jobs.run, max(jobs.id) FROM jobs JOIN runs ON runs.id=jobs.run WHERE "
                     "jobs.kind='step' AND "
                     "jobs.state='succeeded' GROUP BY runs.uid, runs.folder, jobs.name"))
    results.insert(row.integer(0));
  const std::int64_t now = wall_ms();
  for (const RunRow& run : tables.runs("1 ORDER BY id DESC")) {
    const std::pair key(run.uid, run.project);
    if (!keeps.contains(key) && !run.text.empty()) {
      const auto read = spec::read_project(run.text, nullptr);
      if (read.project) keeps[key] = read.project->keep;
    }
    const spec::Keep keep = keeps.contains(key) ? keeps[key] : spec::Keep{};
    const bool live = run.state == "preparing" || run.state == "running" || run.state == "serving";
    const auto jobs = tables.jobs_of(run.id);
    const bool open =
        std::any_of(jobs.begin(), jobs.end(), [](const JobRow& job) { return !job.ended(); });
    if (!live && !open && ++counted[key] > keep.runs && !results.contains(run.id)) {
      ++plan.removed_runs;
      for (const JobRow& job : jobs)
        for (const AttemptView& attempt : node.supervisor.attempts_of(job.id)) {
          plan.attempts.push_back(attempt.id);
          plan.folders.push_back(work_of(job, attempt.number));
        }
      if (plan.dry_run) continue;
      events.remove(run.id);
      tables.remove_run(run.id);
      projects.erase(run.id);
      continue;
    }
    add_tree(plan.roots, run.snapshot);
    for (const auto& [name, kept] : run.data.as_object())
      add_blob(plan.roots, kept["record"].as_string());
    for (const std::string& record : tables.records_of(run.id)) add_blob(plan.roots, record);
    const auto age_ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(keep.attempts).count();
    for (const JobRow& job : jobs) {
      if (!job.env.empty())
        if (const auto env = envs.find(job.env)) {
          env::add_roots(env->section, plan.roots);
          add_tree(plan.roots, env->tree);
        }
      if (!job.ended()) {
        add_tree(plan.roots, job.tree);
        continue;
      }
      for (const AttemptView& attempt : node.supervisor.attempts_of(job.id)) {
        if (attempt.state != "ended" || now - attempt.ended_ms <= age_ms) continue;
        if (!path_exists(node.supervisor.folder_of(attempt.id))) continue;
        plan.attempts.push_back(attempt.id);
        plan.folders.push_back(work_of(job, attempt.number));
      }
    }
  }
  std::map<std::pair<std::uint32_t, std::string>, int> versions;
  auto all = models.everybodys();
  std::reverse(all.begin(), all.end());  // newest first
  for (const ModelVersion& version : all) {
    const auto keep = keeps.find({version.uid, version.project});
    const int limit = keep == keeps.end() ? spec::Keep{}.versions : keep->second.versions;
    const bool kept = ++versions[{version.uid, version.name}] <= limit ||
                      services->serves(version.uid, version.name, version.version);
    if (kept) {
      add_tree(plan.roots, version.tree);
      if (const auto record = Digest::parse(version.record)) plan.kept_versions.push_back(*record);
      continue;
    }
    ++plan.removed_versions;
    if (!plan.dry_run) models.remove(version);
  }
  for (const std::string& digest : envs.newest(kEnvsKept))
    if (const auto env = envs.find(digest)) {
      env::add_roots(env->section, plan.roots);
      add_tree(plan.roots, env->tree);
    }
  // Folders that a collection before this one did not get to.
  const auto works = list_folder(node.context.paths.outputs);
  for (const std::string& name : works ? *works : std::vector<std::string>{})
    if (const std::int64_t job = job_of_work(name); job != 0 && !tables.job(job))
      plan.folders.push_back(node.context.paths.outputs + "/" + name);
  for (const Row& row : node.db.query(
           "SELECT id FROM attempts WHERE state='ended' AND job NOT IN (SELECT id FROM jobs)"))
    if (path_exists(node.supervisor.folder_of(row.integer(0))))
      plan.attempts.push_back(row.integer(0));
  std::sort(plan.folders.begin(), plan.folders.end());
  plan.folders.erase(std::unique(plan.folders.begin(), plan.folders.end()), plan.folders.end());
  std::sort(plan.attempts.begin(), plan.attempts.end());
  plan.attempts.erase(std::unique(plan.attempts.begin(), plan.attempts.end()), plan.attempts.end());
}

void Runs::Impl::release_pin(std::shared_ptr<store::Store::Pin> pin) {
  if (collecting)
    held_pins.push_back(std::move(pin));  // its rows are younger than the collection's roots
}

void Runs::Impl::collect(bool dry_run, ResponderPtr responder) {
  if (collecting) return responder->reply_error({ErrorCode::busy, "a collection is running"});
  auto plan = std::make_shared<KeepPlan>();
  plan->dry_run = dry_run;
  plan->pin = node.store.pin();
  choose(*plan);
  collecting = true;
  const auto work = [this, plan] {
    for (const std::string& folder : plan->folders) {
      plan->freed_bytes += folder_bytes(folder, ~std::uint64_t{0} >> 1);
      if (!plan->dry_run) (void)remove_tree(folder);
    }
    for (const Digest& record : plan->kept_versions)
      follow_version(node.store, record, plan->roots);
    plan->report = node.store.collect(plan->roots, plan->dry_run);
  };
  const auto done = [this, plan, responder] {
    collecting = false;
    held_pins.clear();
    std::uint64_t removed_attempts = 0;
    for (const AttemptId attempt : plan->attempts)
      if (plan->dry_run || node.supervisor.remove_folder(attempt)) ++removed_attempts;
    if (!plan->report) return responder->reply_error(plan->report.error());
    responder->reply(
        200, Json::object({{"removed_trees", plan->report->removed_trees},
                           {"removed_objects", plan->report->removed_objects},
                           {"removed_blobs", plan->report->removed_blobs},
                           {"removed_runs", plan->removed_runs},
                           {"removed_versions", plan->removed_versions},
                           {"removed_attempts", removed_attempts},
                           {"freed_bytes", plan->report->freed_bytes + plan->freed_bytes}}));
  };
  node.db.after_commit([this, work, done] { node.loop.offload(work, done); });
}

void Runs::Impl::store_routes(Routes& routes) {
  routes.add(
      "GET", "/v1/store",
      [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
        auto view = std::make_shared<StoreView>();
        std::set<std::string> seen;
        const auto add = [&](const std::string& kind, const std::string& name,
                             const std::string& digest, const std::string& why) {
          if (digest.empty() || !seen.insert(kind + name + digest).second) return;
          view->items.push_back(
              Json::object({{"kind", kind}, {"name", name}, {"digest", digest}, {"why", why}}));
        };
        for (const ModelVersion& version : models.all(request.caller.uid))
          add("model", version.name + "@" + std::to_string(version.version), version.tree,
              version.run != 0 ? "made by " + std::to_string(version.run) + "/" + version.step
                               : "imported");
        for (const std::string& digest : envs.newest(kEnvsKept))
          if (const auto env = envs.find(digest))
            add("env", env->section["base"].as_string(), env->tree,
                "environment " + digest.substr(0, 12));
        for (const RunRow& run :
             tables.runs("uid=? ORDER BY id DESC LIMIT 200", {std::int64_t{request.caller.uid}}))
          add("snapshot", run.project, run.snapshot, "run " + std::to_string(run.id));
        node.loop.offload(
            [this, view] {
              for (Json& item : view->items) {
                const auto digest = Digest::parse(item["digest"].as_string());
                const auto info = digest && node.store.has_tree(*digest)
                                      ? node.store.tree_info(*digest)
                                      : Result<store::TreeInfo>(store::TreeInfo{});
                item.set("size_bytes", info ? info->size_bytes : 0);
              }
              const auto usage = node.store.usage();
              if (usage) view->usage = *usage;
              if (!usage) view->error = usage.error().text;
            },
            [this, view, responder] {
              if (!view->error.empty()) return responder->reply_error({ErrorCode::io, view->error});
              responder->reply(
                  200, Json::object(
                           {{"trees", view->usage.trees},
                            {"objects", view->usage.objects},
                            {"blobs", view->usage.blobs},
                            {"size_bytes", view->usage.size_bytes},
                            {"disk_free_bytes", disk_free_bytes(node.context.paths.store)},
                            {"items", Json(Json::Array(view->items.begin(), view->items.end()))}}));
            });
      });
  routes.add(
      "POST", "/v1/store/verify",
      [this](const Request&, const Routes::Params&, ResponderPtr responder) {
        auto verification = std::make_shared<Verification>();
        verification->responder = responder;
        responder->start_stream("text/event-stream");
        responder->on_closed([verification] { verification->gone = true; });
        node.loop.offload(
            [this, verification] {
              verification->damage =
                  node.store.verify([this, verification](std::uint64_t done, std::uint64_t total) {
                    node.loop.post([verification, done, total] {
                      if (!verification->gone)
                        verification->responder->write(
                            sse_text("progress", Json::object({{"done", done}, {"total", total}})));
                    });
                  });
            },
            [verification] {
              if (verification->gone) return;
              Json damage{Json::Array{}};
              for (const store::Damage& one :
                   verification->damage ? *verification->damage : std::vector<store::Damage>{})
                damage.push(
                    Json::object({{"what", one.what}, {"finding", printable(one.finding)}}));
              Json data = Json::object({{"damage", std::move(damage)}});
              if (!verification->damage)
                data.set("error", printable(verification->damage.error().text));
              verification->responder->write(sse_text("done", data));
              verification->responder->end_stream();
            });
      });
  routes.add("POST", "/v1/store/gc",
             [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
               const bool dry_run = request.body["dry_run"].as_bool();
               if (request.caller.uid != 0 && !node.context.identity.rootless && !dry_run)
                 return responder->reply_error(
                     {ErrorCode::denied,
                      "the system node's store is collected by root: sudo loam store gc"});
               collect(dry_run, std::move(responder));
             });
}

}  // namespace loam::node
