// A node's first look at the attempts that its database holds open (recovery.md, "Order of a
// restart").
#include <chrono>
#include <set>
#include <utility>

#include "base/files.h"
#include "base/log.h"
#include "node/supervisor_impl.h"

namespace loam::node {
namespace {

constexpr std::int64_t kConnectLimitMs = 30'000;
// For a shim whose lock is held to say that it runs, or to die: one that was killed a moment ago still
// holds the lock, and who asks then would not hear what was lost. A stopped shim holds nobody longer.
constexpr std::chrono::milliseconds kFirstWordLimit{2'000};
constexpr std::int64_t kLeftoverLimitMs = 10'000;

}  // namespace

void Supervisor::recover(std::function<void()> done) { impl_->recover(std::move(done)); }

void Supervisor::Impl::recover(std::function<void()> done) {
  if (auto started = shims.start(); !started) log_error(started.error().text);  // each job will say so too
  const auto rows = db.query(
      "SELECT id, job, boot, cgroup, started_ms, lane FROM attempts WHERE state <> 'ended' AND lane "
      "IN (0, id) ORDER BY id",
      {});
  // One for this function, one for each attempt; whoever is last calls done.
  auto waiting = std::make_shared<std::size_t>(1);
  const auto one_less = [this, waiting, done = std::move(done)] {
    if (--*waiting != 0) return;
    recovery_patience.reset();
    done();
  };
  for (const Row& row : rows) {
    auto attempt = std::make_shared<OpenAttempt>();
    attempt->id = row.integer(0);
    attempt->job = row.integer(1);
    attempt->started_ms = row.integer(4);
    attempt->is_lane = row.integer(5) != 0;
    attempt->folder = folder_of(attempt->id);
    if (const auto parents = sandbox::cgroup_parents_from(row.json(3)))
      attempt->cgroup = sandbox::cgroup_paths(*parents, std::to_string(attempt->id));
    open[attempt->id] = attempt;
    if (row.text(2) != boot) {
      finish(attempt, record_of(*attempt, api::Outcome::lost, "the machine was restarted"), true);
      continue;
    }
    auto lock = take_lock(attempt->folder, false);
    if (!lock && lock.error().code == ErrorCode::busy) {
      ++*waiting;
      attempt->on_decided = one_less;
      connect_again(attempt);
      continue;
    }
    // Without a lock file the start came no further than its commit: there is nothing to hold it
    // by, and no shim.
    if (lock) attempt->lock = std::move(*lock);
    ++*waiting;
    resolve_dead(attempt, one_less);
  }
  remove_leftovers();
  recovery_patience = loop.after(kFirstWordLimit, [this] {
    const auto attempts = open;
    for (const auto& [id, attempt] : attempts) decided(*attempt);
  });
  one_less();
}

void Supervisor::Impl::decided(OpenAttempt& attempt) {
  if (const auto tell = std::exchange(attempt.on_decided, nullptr)) tell();
}

// A shim lives: found by its socket, which it may be about to make.
void Supervisor::Impl::connect_again(const OpenAttemptPtr& attempt) {
  auto socket = std::make_shared<Result<Fd>>();
  loop.offload([attempt, socket] { *socket = connect_to_shim(attempt->folder, kConnectLimitMs); },
               guarded([this, attempt, socket] {
                 if (attempt->ended) return;
                 if (*socket) return connected(attempt, std::move(**socket));
                 shim_gone(attempt);
               }));
}

void Supervisor::Impl::remove_leftovers() {
  std::set<std::string> known;
  for (const auto& [id, attempt] : open)
    if (!attempt->ended) known.insert(std::to_string(id));
  auto names = std::make_shared<std::vector<std::string>>();
  for (const std::string& name : sandbox::list_cgroups(context.cgroups))
    // Only what is named as attempts are: the node's own group lies beside them on v2 hosts.
    if (!known.contains(name) && name.find_first_not_of("0123456789") == std::string::npos)
      names->push_back(name);
  if (names->empty()) return;
  loop.offload(
      [names, parents = context.cgroups] {
        for (const std::string& name : *names) {
          const auto paths = sandbox::cgroup_paths(parents, name);
          auto gone = sandbox::kill_cgroup(paths, kLeftoverLimitMs);
          if (gone) gone = sandbox::remove_cgroup(paths);
          if (!gone) log_warning("left-over cgroup " + name + ": " + gone.error().text);
        }
      },
      [] {});
}

}  // namespace loam::node
