#include "node/envs.h"

#include <utility>

#include "base/clock.h"
#include "base/files.h"

namespace loam::node {
namespace {

constexpr std::int64_t kProgressEveryNs = 50'000'000;  // a terminal cannot show more

std::string key_of(const EnvRequest& request) {
  return Json::object({{"base", request.env.base},
                       {"apt", Json::array_of(request.env.apt)},
                       {"pip", Json::array_of(request.env.pip)},
                       {"section", request.section ? *request.section : Json()}})
      .dump();
}

// On a worker.
Result<EnvOutcome> resolve_and_build(const env::Context& context, const EnvRequest& request,
                                     env::NamedTree named_tree) {
  EnvOutcome outcome;
  outcome.section =
      request.section ? *request.section : LOAM_TRY(env::resolve(context, request.env));
  const auto named = Digest::parse(outcome.section["tree"].as_string());
  const bool was_there =
      named_tree == env::NamedTree::built_here && named && context.store->has_tree(*named);
  const env::Built built = LOAM_TRY(env::build(context, outcome.section, named_tree));
  outcome.digest = built.digest;
  if (built.tree) outcome.tree = built.tree->hex();
  outcome.built = built.tree.has_value() && !was_there;
  return outcome;
}

}  // namespace

std::optional<EnvOutcome> Envs::find(const std::string& digest) {
  const auto rows = node_.db.query("SELECT section, tree FROM envs WHERE digest=?", {digest});
  if (rows.empty()) return std::nullopt;
  return EnvOutcome{digest, rows[0].text(1), rows[0].json(0), false};
}

EnvOutcome Envs::host() {
  EnvOutcome outcome;
  const Json wanted =
      Json::object({{"base", "host"}, {"apt", Json::array()}, {"pip", Json::array()}});
  outcome.section = Json::object(
      {{"base", "host"}, {"platform", env::platform()}, {"wanted", wanted}, {"tree", Json()}});
  outcome.digest = sha256_of(outcome.section.dump()).hex();
  if (!find(outcome.digest)) remember(outcome);
  return outcome;
}

void Envs::remember(const EnvOutcome& outcome) {
  node_.db.write(
      "INSERT INTO envs(digest, section, tree, used_ms) VALUES(?,?,?,?) "
      "ON CONFLICT(digest) DO UPDATE SET used_ms=excluded.used_ms",
      {outcome.digest, outcome.section.dump(), outcome.tree, wall_ms()});
}

void Envs::touch(const std::string& digest) {
  node_.db.write("UPDATE envs SET used_ms=? WHERE digest=?", {wall_ms(), digest});
}

std::vector<std::string> Envs::newest(std::size_t count) {
  std::vector<std::string> digests;
  for (const Row& row : node_.db.query("SELECT digest FROM envs ORDER BY used_ms DESC LIMIT ?",
                                       {static_cast<std::int64_t>(count)}))
    digests.push_back(row.text(0));
  return digests;
}

// A locked section whose tree the store holds needs nothing.
std::optional<EnvOutcome> Envs::ready(const EnvRequest& request) {
  if (!request.section) return std::nullopt;
  const auto rows =
      node_.db.query("SELECT digest, tree FROM envs WHERE section=?", {request.section->dump()});
  if (rows.empty()) return std::nullopt;
  const std::string tree = rows[0].text(1);
  if (!tree.empty()) {
    const auto digest = Digest::parse(tree);
    if (!digest || !node_.store.has_tree(*digest)) return std::nullopt;
  }
  touch(rows[0].text(0));
  return EnvOutcome{rows[0].text(0), tree, *request.section, false};
}

env::NamedTree Envs::named_tree(const EnvRequest& request) {
  if (!request.section) return env::NamedTree::unproven;
  const auto tree = Digest::parse((*request.section)["tree"].as_string());
  if (!tree) return env::NamedTree::unproven;
  for (const Row& row : node_.db.query("SELECT section FROM envs WHERE tree=?", {tree->hex()}))
    if (env::same_packages(row.json(0), *request.section)) return env::NamedTree::built_here;
  return env::NamedTree::unproven;
}

Envs::Ticket Envs::prepare(const EnvRequest& request, Listener listener) {
  if (auto outcome = ready(request)) {
    auto wanted = std::make_shared<bool>(true);
    node_.loop.post([wanted = std::weak_ptr<bool>(wanted), outcome, listener] {
      if (wanted.lock()) listener.done(*outcome);
    });
    return wanted;
  }
  const std::string key = key_of(request);
  const std::uint64_t id = next_waiter_++;
  auto& build = builds_[key];
  const bool joined = build != nullptr;
  if (!joined) {
    build = std::make_shared<Build>();
    build->key = key;
    build->request = request;
    queue_.push_back(key);
  }
  build->waiters[id] = std::move(listener);
  if (joined) {
    if (build->waiters[id].waiting) build->waiters[id].waiting();
    for (const auto& [phase, progress] : build->progress) build->waiters[id].progress(progress);
  }
  start_next();
  return Ticket(nullptr, [self = std::weak_ptr<Envs*>(self_), key, id](void*) {
    if (const auto alive = self.lock()) (*alive)->leave(key, id);
  });
}

void Envs::leave(const std::string& key, std::uint64_t waiter) {
  const auto found = builds_.find(key);
  if (found == builds_.end()) return;
  const auto build = found->second;
  build->waiters.erase(waiter);
  if (!build->waiters.empty()) return;
  if (build->running) {
    build->cancelled->store(true);
  } else {
    std::erase(queue_, key);
    builds_.erase(found);
  }
}

void Envs::start_next() {
  while (running_ < kBuildsAtOnceMax && !queue_.empty()) {
    const auto build = builds_.at(queue_.front());
    queue_.pop_front();
    start(build);
  }
}

void Envs::start(const std::shared_ptr<Build>& build) {
  ++running_;
  build->running = true;
  build->cancelled = std::make_shared<std::atomic<bool>>(false);
  env::Context context;
  context.store = &node_.store;
  context.work_folder = node_.context.paths.builds;
  context.build_uids = node_.context.identity.build_uids;
  context.build_gids = node_.context.identity.build_gids;
  context.shared_folder = program_share_folder();
  context.home = build->request.home;
  context.proxy_environment = build->request.proxy_environment;
  context.cancelled = [cancelled = build->cancelled] { return cancelled->load(); };
  // Called on the worker; the loop tells the listeners.
  context.progress = [this, weak = std::weak_ptr<Build>(build), last = std::int64_t{0},
                      phase = std::string()](const env::Progress& progress) mutable {
    const std::int64_t now = steady_ns();
    if (phase == progress.phase && now - last < kProgressEveryNs && progress.done != progress.total)
      return;
    last = now;
    phase = progress.phase;
    node_.loop.post([weak, progress] {
      const auto alive = weak.lock();
      if (!alive || !alive->running) return;
      alive->progress[progress.phase] = progress;
      for (const auto& [id, listener] : alive->waiters) listener.progress(progress);
    });
  };
  auto pin = node_.store.pin();
  auto outcome = std::make_shared<Result<EnvOutcome>>(EnvOutcome{});
  node_.loop.offload([context, request = build->request, named = named_tree(build->request),
                      outcome] { *outcome = resolve_and_build(context, request, named); },
                     [this, build, outcome, pin] {
                       finish(build, std::move(*outcome));
                       if (release_pin) release_pin(pin);
                     });
}

void Envs::finish(const std::shared_ptr<Build>& build, Result<EnvOutcome> outcome) {
  --running_;
  build->running = false;
  const bool given_up = build->cancelled->load();
  if (given_up && !outcome && !build->waiters.empty()) {  // wanted again before it noticed
    build->progress.clear();
    queue_.push_back(build->key);
  } else {
    builds_.erase(build->key);
    if (outcome) remember(*outcome);
    auto waiters = std::move(build->waiters);
    for (auto& [id, listener] : waiters) listener.done(outcome);
  }
  start_next();
}

}  // namespace loam::node
