// Lanes: attempts that are handed tasks (shim/lane.h). A task's attempt is a row that names its
// lane; it is open from before the lane hears of it until its exit is committed, or until the lane
// says that it never began, and then the row goes.
//
//   hand ─ row ─ commit ─▶ lane … "tasks": begun, exits ─▶ one transaction for all of them
//   give_back, a lane found again, a lane that has ended ─▶ what has no exit and is not held
//   returns
//
// An exit is the journal's or the packet's, whichever comes first; the row takes one.
#include <algorithm>
#include <set>
#include <utility>

#include "api/exit_journal.h"
#include "base/clock.h"
#include "base/crash_point.h"
#include "base/files.h"
#include "base/log.h"
#include "node/supervisor_impl.h"

namespace loam::node {
namespace {

constexpr std::size_t kTasksBytesMax = api::kShimPacketBytesMax - 4096;  // of a packet
constexpr std::size_t kJournalBytesMax = 64u << 20;

api::ExitJournal journal_of(const OpenAttempt& lane) {
  const auto bytes = read_file(lane.folder + "/exits", kJournalBytesMax);
  return bytes ? api::read_exit_journal(*bytes) : api::ExitJournal{};
}

std::optional<AttemptId> id_from(const std::string& text) {
  if (text.empty() || text.size() > 18 || text.find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  return std::stoll(text);
}

}  // namespace

OpenAttempt* Supervisor::Impl::open_lane(AttemptId id) {
  const auto found = open.find(id);
  return found != open.end() && found->second->is_lane && !found->second->ended
             ? found->second.get()
             : nullptr;
}

// One that is not connected is asked for what it has not begun when it is.
bool Supervisor::Impl::tell_lane(OpenAttempt& lane, const Json& packet) {
  if (!lane.channel) return false;
  auto sent = lane.channel->send(packet);
  if (!sent) log_warning("attempt " + std::to_string(lane.id) + ": " + sent.error().text);
  return sent.has_value();
}

// After what this turn has handed it, so that the answer is about that too.
void Supervisor::Impl::ask_back(OpenAttempt& asked) {
  ++asked.give_backs;
  db.after_commit([this, lane = open[asked.id]] {
    if (!tell_lane(*lane, Json::object({{"type", "give_back"}}))) --lane->give_backs;
  });
}

bool Supervisor::takes_tasks(AttemptId id) const {
  const OpenAttempt* lane = impl_->open_lane(id);
  return lane != nullptr && lane->channel && lane->give_backs == 0;
}

AttemptId Supervisor::hand(AttemptId lane_id, const LaneTask& task) {
  Impl& impl = *impl_;
  OpenAttempt* lane = impl.open_lane(lane_id);
  LOAM_ASSERT(lane != nullptr && lane->give_backs == 0);
  const AttemptId id = impl.db.insert(
      "INSERT INTO attempts (job, number, state, boot, cgroup, created_ms, placement, lane) VALUES "
      "(?, ?, 'starting', ?, '{}', ?, 'null', ?)",
      {task.job, std::int64_t{task.number}, impl.boot, wall_ms(), lane_id});
  lane->to_hand.push_back(Json::object(
      {{"attempt", std::to_string(id)}, {"environment", task.environment}, {"work", task.work}}));
  if (lane->to_hand.size() == 1)
    impl.db.after_commit([this, open = impl.open[lane_id]] { impl_->send_tasks(open); });
  return id;
}

void Supervisor::Impl::send_tasks(const OpenAttemptPtr& lane) {
  LOAM_CRASH_POINT("node.tasks_committed");
  const auto tasks = std::exchange(lane->to_hand, {});
  for (std::size_t i = 0; i < tasks.size();) {
    Json packet = Json::array();
    for (std::size_t bytes = 0; i < tasks.size(); ++i) {
      bytes += tasks[i].dump().size() + 1;
      if (bytes > kTasksBytesMax && packet.size() > 0) break;
      packet.push(tasks[i]);
    }
    tell_lane(*lane, Json::object({{"type", "tasks"}, {"tasks", std::move(packet)}}));
  }
  LOAM_CRASH_POINT("node.tasks_handed");
}

void Supervisor::give_back(AttemptId id) {
  if (OpenAttempt* lane = impl_->open_lane(id)) impl_->ask_back(*lane);
}

void Supervisor::close(AttemptId id) {
  if (OpenAttempt* lane = impl_->open_lane(id))
    impl_->tell_lane(*lane, Json::object({{"type", "close"}}));
}

std::vector<AttemptId> Supervisor::handed(AttemptId lane) const {
  std::vector<AttemptId> ids;
  for (const Row& row : impl_->db.query("SELECT id FROM attempts WHERE lane = ? AND lane <> 0 AND "
                                        "state <> 'ended' AND id <> lane ORDER BY id",
                                        {lane}))
    ids.push_back(row.integer(0));
  return ids;
}

void Supervisor::Impl::lane_packet(const OpenAttemptPtr& lane, const std::string& type,
                                   const Json& message) {
  if (type == "holds") {
    lane->give_backs = std::max(lane->give_backs - 1, 0);
    const auto held = message["attempts"].as_strings();
    return settle_lane(lane, {held.begin(), held.end()});
  }
  if (type != "tasks")
    return log_warning("attempt " + std::to_string(lane->id) + ": unknown packet from its shim");
  LOAM_CRASH_POINT("node.task_exits_seen");
  std::set<std::string> over;
  std::vector<api::ExitRecord> exits;
  for (const Json& document : message["exits"].as_array())
    if (auto record = api::exit_record_from(document)) {
      over.insert(record->attempt);
      exits.push_back(std::move(*record));
    }
  for (const std::string& text : message["begun"].as_strings())
    if (const auto id = id_from(text); id && !over.contains(text)) begun(*id);
  for (const api::ExitRecord& record : exits) finish_task(lane->id, record, false);
  db.after_commit([] { LOAM_CRASH_POINT("node.task_exits_committed"); });
}

void Supervisor::Impl::begun(AttemptId id) {
  if (db.query("SELECT 1 FROM attempts WHERE id = ? AND state = 'starting'", {id}).empty()) return;
  db.write("UPDATE attempts SET state = 'running', started_ms = ? WHERE id = ?", {wall_ms(), id});
  events.on_running(id);
}

// Exactly once is the row's, as of any attempt.
void Supervisor::Impl::finish_task(AttemptId lane, const api::ExitRecord& record, bool reboot) {
  const auto id = id_from(record.attempt);
  if (!id || *id == lane ||
      db.query("SELECT 1 FROM attempts WHERE id = ? AND lane = ? AND state <> 'ended'", {*id, lane})
          .empty())
    return;
  db.write(
      "UPDATE attempts SET state = 'ended', started_ms = ?, ended_ms = ?, exit = ? WHERE id = ?",
      {record.started_ms, record.ended_ms, api::to_json(record).dump(), *id});
  events.on_exit(*id, record, reboot);
}

void Supervisor::Impl::return_task(AttemptId id) {
  db.write("DELETE FROM attempts WHERE id = ?", {id});
}

// The lane's word came after its last exits: what it does not hold has ended or never began.
void Supervisor::Impl::settle_lane(const OpenAttemptPtr& lane, const std::set<std::string>& held) {
  const auto rows = db.query(
      "SELECT id, job FROM attempts WHERE lane = ? AND lane <> 0 AND state <> 'ended' AND id <> "
      "lane",
      {lane->id});
  std::vector<std::pair<AttemptId, JobId>> returned;
  std::map<std::string, JobId> open_tasks;
  for (const Row& row : rows)
    if (!held.contains(std::to_string(row.integer(0))))
      open_tasks[std::to_string(row.integer(0))] = row.integer(1);
  // Most give back without a node that was away: then there is nothing to look up.
  if (!open_tasks.empty())
    for (const api::ExitRecord& record : journal_of(*lane).exits)
      if (open_tasks.erase(record.attempt) != 0) finish_task(lane->id, record, false);
  for (const auto& [text, job] : open_tasks) {
    returned.emplace_back(std::stoll(text), job);
    return_task(returned.back().first);
  }
  if (events.on_returned) events.on_returned(lane->id, returned);
}

// In the transaction that ends the lane. After a reboot the journal may lack what was not synced,
// and what a task left need not be on the disk: all are lost.
void Supervisor::Impl::settle_ended_lane(const OpenAttemptPtr& lane, api::Outcome how,
                                         bool reboot) {
  const api::ExitJournal journal = reboot ? api::ExitJournal{} : journal_of(*lane);
  for (const api::ExitRecord& record : journal.exits) finish_task(lane->id, record, false);
  const std::set<std::string> begun_ones(journal.begun.begin(), journal.begun.end());
  std::vector<std::pair<AttemptId, JobId>> returned;
  for (const Row& row : db.query("SELECT id, job FROM attempts WHERE lane = ? AND lane <> 0 AND "
                                 "state <> 'ended' AND id <> lane",
                                 {lane->id})) {
    const AttemptId id = row.integer(0);
    if (reboot || begun_ones.contains(std::to_string(id))) {
      OpenAttempt task;
      task.id = id;
      const bool survives = how == api::Outcome::unkillable;
      finish_task(
          lane->id,
          record_of(task, survives ? how : api::Outcome::lost, "its lane ended without its exit"),
          reboot);
    } else {
      return_task(id);
      returned.emplace_back(id, row.integer(1));
    }
  }
  if (events.on_returned) events.on_returned(lane->id, returned);
}

// One that has not begun comes back; one that runs is told to end.
void Supervisor::Impl::stop_task(AttemptId id, api::Outcome reason) {
  const auto rows = db.query("SELECT lane FROM attempts WHERE id = ? AND state <> 'ended'", {id});
  OpenAttempt* lane = rows.empty() ? nullptr : open_lane(rows[0].integer(0));
  if (lane == nullptr) return;
  ask_back(*lane);
  db.after_commit([this, id, reason, asked = open[lane->id]] {
    tell_lane(*asked, Json::object({{"type", "stop"},
                                    {"attempt", std::to_string(id)},
                                    {"outcome", api::outcome_name(reason)}}));
  });
}

}  // namespace loam::node
