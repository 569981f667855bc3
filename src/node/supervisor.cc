#include "node/supervisor.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>

#include "base/clock.h"
#include "base/crash_point.h"
#include "base/files.h"
#include "base/log.h"
#include "node/supervisor_impl.h"

namespace loam::node {
namespace {

constexpr std::int64_t kDyingShimLimitMs = 30'000;

AttemptView view_of(const Row& row) {
  AttemptView view;
  view.id = row.integer(0);
  view.job = row.integer(1);
  view.number = static_cast<int>(row.integer(2));
  view.state = row.text(3);
  view.created_ms = row.integer(4);
  view.started_ms = row.integer(5);
  view.ended_ms = row.integer(6);
  if (auto record = api::exit_record_from(row.json(7))) view.exit = std::move(*record);
  view.boot = row.text(8);
  view.placement = row.json(9);
  view.lane = row.integer(10);
  return view;
}

Json stop_packet(const OpenAttempt& attempt) {
  Json packet = Json::object(
      {{"type", "stop"}, {"outcome", api::outcome_name(*attempt.stop_reason)}});
  if (!attempt.stop_error.empty()) packet.set("error", attempt.stop_error);
  return packet;
}

constexpr std::string_view kViewColumns =
    "SELECT id, job, number, state, created_ms, started_ms, ended_ms, exit, boot, placement, "
    "lane "
    "FROM attempts ";

}  // namespace

Supervisor::Supervisor(Loop& loop, Database& database, const NodeContext& context, Events events,
                       std::string shim)
    : impl_(new Impl{.loop = loop,
                     .db = database,
                     .context = context,
                     .events = std::move(events),
                     .shims = ForkServer({shim.empty() ? program_folder() + "/loam-shim" : std::move(shim), "--serve"},
                                         environment_of_helpers()),
                     .boot = boot_id(),
                     .open = {}}) {}

// The shims live on. Channels and watches hold their attempts: they go first.
Supervisor::~Supervisor() {
  for (const auto& [id, attempt] : impl_->open) {
    attempt->channel.reset();
    attempt->pid_watch.reset();
  }
}

void Supervisor::stop_helper() { impl_->shims.stop(); }

void Supervisor::Impl::connected(const OpenAttemptPtr& attempt, Fd socket) {
  attempt->channel = std::make_unique<ShimChannel>(
      loop, std::move(socket), [this, attempt](const Json& message) { packet(attempt, message); },
      [this, attempt] {
        attempt->channel.reset();
        shim_gone(attempt);
      });
  attempt->give_backs = 0;
  const auto tell = [&](const Json& message, int descriptor = -1) {
    if (auto sent = attempt->channel->send(message, descriptor); !sent)
      log_warning("attempt " + std::to_string(attempt->id) + ": " + sent.error().text);
  };
  if (attempt->stop_reason) tell(stop_packet(*attempt));
  if (attempt->kill_asked) tell(Json::object({{"type", "kill"}}));
  for (const auto& [message, stream] : attempt->streams_waiting) tell(message, stream.get());
  attempt->streams_waiting.clear();
}

void Supervisor::Impl::packet(const OpenAttemptPtr& attempt, const Json& message) {
  if (attempt->ended) return;
  const std::string& type = message["type"].as_string();
  if (type == "running") {
    if (attempt->started_ms != 0) {  // said again to a new node
      // What it was handed and has not begun, the rows may know otherwise.
      if (attempt->is_lane) ask_back(*attempt);
      return decided(*attempt);
    }
    attempt->started_ms = message["started_ms"].as_int(wall_ms());
    db.write(
        "UPDATE attempts SET state = 'running', started_ms = ? WHERE id = ? AND state = 'starting'",
        {attempt->started_ms, attempt->id});
    events.on_running(attempt->id);
    db.after_commit([] { LOAM_CRASH_POINT("node.running_committed"); });
  } else if (type == "exited") {
    auto record = api::exit_record_from(message["record"]);
    if (!record || record->attempt != std::to_string(attempt->id))
      return log_warning("attempt " + std::to_string(attempt->id) +
                         ": the shim sent no exit record of it");
    exit_seen(attempt, std::move(*record));
  } else if (attempt->is_lane) {
    lane_packet(attempt, type, message);
  } else {
    log_warning("attempt " + std::to_string(attempt->id) + ": unknown packet from its shim");
  }
  decided(*attempt);
}

// The file is the record; the packet stands in for it where the disk took no file.
void Supervisor::Impl::exit_seen(const OpenAttemptPtr& attempt,
                                 std::optional<api::ExitRecord> told) {
  LOAM_CRASH_POINT("node.exit_seen");
  auto record = read_exit_record(attempt->folder, std::to_string(attempt->id));
  if (!record) record = std::move(told);
  if (record) finish(attempt, *record, false);
}

// Exactly once is the database's: the row takes one exit, and `ended` keeps this process from a
// second one.
void Supervisor::Impl::finish(const OpenAttemptPtr& attempt, const api::ExitRecord& record,
                              bool reboot) {
  if (std::exchange(attempt->ended, true)) return;
  if (attempt->is_lane) settle_ended_lane(attempt, record.outcome, reboot);
  db.write(
      "UPDATE attempts SET state = 'ended', ended_ms = ?, exit = ? WHERE id = ? AND state <> "
      "'ended'",
      {record.ended_ms != 0 ? record.ended_ms : wall_ms(), api::to_json(record).dump(),
       attempt->id});
  events.on_exit(attempt->id, record, reboot);
  db.after_commit([this, attempt, outcome = record.outcome] {
    LOAM_CRASH_POINT("node.exit_committed");
    attempt->lock.reset();
    attempt->streams_waiting.clear();
    if (attempt->channel) {
      if (auto sent = attempt->channel->send(Json::object({{"type", "committed"}})); !sent)
        log_warning("attempt " + std::to_string(attempt->id) + ": " + sent.error().text);
      LOAM_CRASH_POINT("node.exit_acknowledged");
      return;  // its end closes the channel: shim_gone()
    }
    // What could not be killed keeps its group: the next node's start looks at it again.
    if (outcome == api::Outcome::unkillable) {
      open.erase(attempt->id);
      return;
    }
    clean_up(attempt);
  });
  decided(*attempt);
}

void Supervisor::Impl::clean_up(const OpenAttemptPtr& attempt) {
  if (attempt->pid > 0) return reap(attempt);
  if (attempt->cgroup.any()) {
    // On a worker: a v1 group stays busy for some milliseconds after its last exit.
    loop.offload(
        [attempt] {
          if (auto removed = sandbox::remove_cgroup(attempt->cgroup); !removed)
            log_warning("cgroup of attempt " + std::to_string(attempt->id) + ": " +
                        removed.error().text);
        },
        [] {});
  }
  open.erase(attempt->id);
}

void Supervisor::Impl::reap(const OpenAttemptPtr& attempt) {
  const auto reaped = [this, attempt] {
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(attempt->pid), &info, WEXITED | WNOHANG) == 0 &&
        info.si_pid == 0)
      return;  // not yet
    attempt->pid = -1;
    attempt->pid_watch.reset();
    attempt->pidfd.reset();
    if (attempt->ended && !attempt->channel && open.contains(attempt->id)) clean_up(attempt);
  };
  if (!attempt->pid_watch && attempt->pidfd)
    attempt->pid_watch = loop.watch_readable(attempt->pidfd.get(), reaped);
}

// The socket ended. After the exit: as agreed. Before it: the shim died, or is about to.
void Supervisor::Impl::shim_gone(const OpenAttemptPtr& attempt) {
  if (attempt->pid > 0) reap(attempt);
  if (attempt->ended) {
    if (attempt->pid <= 0) clean_up(attempt);
    return;
  }
  auto lock = std::make_shared<Result<Fd>>();
  loop.offload([attempt, lock] { *lock = await_lock(attempt->folder, kDyingShimLimitMs); },
               guarded([this, attempt, lock] {
                 if (attempt->ended) return;
                 if (!*lock && (*lock).error().code == ErrorCode::busy) {
                   // It lives and does not talk to us; nothing may be started in its place.
                   log_error("attempt " + std::to_string(attempt->id) +
                             ": its shim lives but does not answer");
                   return connect_again(attempt);
                 }
                 if (*lock) attempt->lock = std::move(**lock);
                 resolve_dead(attempt, [] {});
               }));
}

// The lock is ours: no shim. A record on disk is the exit; without one, fence and lose.
void Supervisor::Impl::resolve_dead(const OpenAttemptPtr& attempt, std::function<void()> done) {
  if (auto record = read_exit_record(attempt->folder, std::to_string(attempt->id))) {
    LOAM_CRASH_POINT("node.exit_seen");
    finish(attempt, *record, false);
    return done();
  }
  auto gone = std::make_shared<bool>(false);
  loop.offload([attempt, gone] { *gone = fence(attempt->folder, attempt->cgroup); },
               guarded([this, attempt, gone, done = std::move(done)] {
                 std::string words = last_words(attempt->folder);
                 words = "its keeper ended without a record" + (words.empty() ? "" : ": " + words);
                 finish(attempt,
                        *gone ? record_of(*attempt, api::Outcome::lost, words)
                              : record_of(*attempt, api::Outcome::unkillable,
                                          words + "; processes of it could not be killed"),
                        false);
                 done();
               }));
}

api::ExitRecord Supervisor::Impl::record_of(const OpenAttempt& attempt, api::Outcome outcome,
                                            std::string error) const {
  api::ExitRecord record;
  record.attempt = std::to_string(attempt.id);
  record.outcome = outcome;
  record.error = std::move(error);
  record.started_ms = attempt.started_ms;
  record.ended_ms = wall_ms();
  return record;
}

void Supervisor::stop(AttemptId id, api::Outcome reason, const std::string& error) {
  const auto found = impl_->open.find(id);
  if (found == impl_->open.end()) return impl_->stop_task(id, reason);
  if (found->second->ended) return;
  OpenAttempt& attempt = *found->second;
  const bool overrides =
      attempt.stop_reason == api::Outcome::preempted &&
      (reason == api::Outcome::cancelled || reason == api::Outcome::disk_full);
  if (attempt.stop_reason && !overrides) return;
  attempt.stop_reason = reason;
  attempt.stop_error = error;
  if (!attempt.channel) return;  // launch() or connected() sees it
  const auto sent = attempt.channel->send(stop_packet(attempt));
  if (!sent) log_warning("attempt " + std::to_string(id) + ": " + sent.error().text);
}

void Supervisor::kill(AttemptId id) {
  const auto found = impl_->open.find(id);
  if (found == impl_->open.end() || found->second->ended) return;
  OpenAttempt& attempt = *found->second;
  attempt.kill_asked = true;
  if (!attempt.channel) {
    if (!attempt.stop_reason) attempt.stop_reason = api::Outcome::cancelled;
    return;
  }
  if (auto sent = attempt.channel->send(Json::object({{"type", "kill"}})); !sent)
    log_warning("attempt " + std::to_string(id) + ": " + sent.error().text);
}

void Supervisor::signal(AttemptId id, int number) {
  const auto found = impl_->open.find(id);
  if (found == impl_->open.end() || found->second->ended || !found->second->channel) return;
  const auto sent =
      found->second->channel->send(Json::object({{"type", "signal"}, {"number", number}}));
  if (!sent) log_warning("attempt " + std::to_string(id) + ": " + sent.error().text);
}

Result<void> Supervisor::attach(AttemptId id, Fd stream) {
  return hand_over(id, Json::object({{"type", "attach"}}), std::move(stream));
}

Result<void> Supervisor::hand_over(AttemptId id, Json packet, Fd stream) {
  const auto found = impl_->open.find(id);
  const auto task = found == impl_->open.end() ? find(id) : std::nullopt;
  if (task && task->in_lane() && task->state != "ended")
    return fail(ErrorCode::unavailable,
                "it shares a sandbox with other tasks of its sweep, which nobody joins");
  if (found == impl_->open.end() || found->second->ended)
    return fail(ErrorCode::unavailable, "the attempt has ended; its output is in the log");
  OpenAttempt& attempt = *found->second;
  if (attempt.channel)
    return attempt.channel->send(packet, stream.get());
  if (attempt.streams_waiting.size() >= kStreamsWaitingMax)
    return fail(ErrorCode::busy, "too many clients wait for this attempt to start");
  attempt.streams_waiting.emplace_back(std::move(packet), std::move(stream));
  return {};
}

std::vector<AttemptView> Supervisor::attempts_of(JobId job) const {
  std::vector<AttemptView> views;
  for (const Row& row :
       impl_->db.query(std::string(kViewColumns) + "WHERE job = ? ORDER BY number", {job}))
    views.push_back(view_of(row));
  return views;
}

std::optional<AttemptView> Supervisor::find(AttemptId id) const {
  const auto rows = impl_->db.query(std::string(kViewColumns) + "WHERE id = ?", {id});
  if (rows.empty()) return std::nullopt;
  return view_of(rows[0]);
}

std::string Supervisor::folder_of(AttemptId id) const { return impl_->folder_of(id); }

Result<void> Supervisor::remove_folder(AttemptId id) {
  const auto view = find(id);
  if (view && view->state != "ended")
    return fail(ErrorCode::busy, "attempt " + std::to_string(id) + " has not ended");
  return remove_tree(impl_->folder_of(id));
}

}  // namespace loam::node
