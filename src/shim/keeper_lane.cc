// A lane's attempt: one sandbox, task after task, until it is closed or told to end (shim/lane.h).
//
//   tasks ─▶ next_task ─ pid 1 … 'd' ─▶ on_task_end: record, next_task, settle_exits ─▶ … ─ close
//   ─▶ kill_all ─ on_init_end ─ the lane's own record
#include <signal.h>
#include <unistd.h>

#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "shim/keeper.h"

namespace loam::shim {
namespace {

// Between two syncs while tasks run one after another: what ends meanwhile shares the next one.
constexpr std::int64_t kSettlePauseMs = 25;
constexpr std::int64_t kTaskKillLimitMs = 1'000;  // for pid 1 to end a task; then it goes too
constexpr std::int64_t kNsPerMs = 1'000'000;

}  // namespace

Result<void> Keeper::open_lane() {
  if (!plan_.lane) return {};
  lane_.emplace(LOAM_TRY(Lane::open(plan_)));
  return {};
}

void Keeper::on_lane_packet(const std::string& type, const Json& packet) {
  if (type == "tasks") {
    if (auto handed = lane_->hand(packet["tasks"]); !handed) {
      log_error("attempt " + plan_.attempt + ": " + handed.error().text);
      closing_ = true;  // whoever knows of the disk decides when there is another lane
    }
    next_task();
    settle_exits();
  }
  if (type == "give_back") {
    lane_->drop_waiting();
    settle_exits_now();  // before the answer: what neither is held nor has ended never began
    link_.tell(lane_->holds());
  }
  if (type == "close") {
    closing_ = true;
    next_task();
  }
  if (type == "stop" && lane_->runs() && packet["attempt"].as_string() == lane_->running())
    stop_task(api::outcome_from(packet["outcome"].as_string()).value_or(api::Outcome::cancelled));
}

void Keeper::next_task() {
  if (state_ != State::running || killed_ || lane_->runs()) return;
  if (stopped_ || (closing_ && !lane_->has_waiting())) {
    if (!stopped_) status_ = 0;
    return kill_all();
  }
  if (!lane_->has_waiting()) return;
  if (auto begun = lane_->begin(sandbox_.control.get()); !begun) give_up_lane(begun.error());
  if (plan_.time_limit_ms > 0) arm(Timer::time_limit, plan_.time_limit_ms);
}

void Keeper::stop_task(api::Outcome why) {
  if (!lane_->runs() || task_stopped_ || stopped_) return;
  task_stopped_ = why;
  disarm(Timer::time_limit);
  terminate(plan_.grace_ms);
}

void Keeper::on_lane_grace() {
  if (stopped_ || std::exchange(task_kill_asked_, true)) return kill_all();
  sandbox::lift_cpu_limit(cgroup_);
  send_control(sandbox::Control::kill);
  arm(Timer::grace, kTaskKillLimitMs);
}

void Keeper::on_task_end(const sandbox::InitPacket& packet) {
  if (!lane_ || !lane_->runs()) return;
  for (const Timer timer : {Timer::time_limit, Timer::grace, Timer::unkillable}) disarm(timer);
  if (killed_) arm(Timer::unkillable, kTaskKillLimitMs);
  end_task(task_record(packet.status, packet.largest_bytes, packet.cpu_ns));
  next_task();
  if (state_ == State::running) settle_exits();
}

void Keeper::end_task(api::ExitRecord record) {
  task_stopped_.reset();
  task_kill_asked_ = false;
  record.ended_ms = wall_ms();
  if (auto ended = lane_->end(record); !ended) give_up_lane(ended.error());
}

// The task that the lane's end found running ended with it.
void Keeper::end_with_lane(bool unkillable) {
  if (!lane_ || !lane_->runs()) return;
  api::ExitRecord record = task_record(SIGKILL, largest_bytes_, 0);
  if (unkillable) {
    record.outcome = api::Outcome::unkillable;
    record.error = "processes of it could not be killed";
  }
  end_task(std::move(record));
}

api::ExitRecord Keeper::task_record(int status, std::int64_t largest_bytes, std::int64_t cpu_ns) {
  api::ExitRecord record;
  record.attempt = lane_->running();
  record.started_ms = lane_->started_ms();
  record.memory_limit_bytes = plan_.memory_bytes;
  record.cpu_ns = static_cast<std::uint64_t>(cpu_ns);
  record.missing = missing_;
  set_status(record, status);
  const auto why = task_stopped_ ? task_stopped_ : stopped_;
  const bool succeeded = record.outcome == api::Outcome::exited && record.code == 0;
  if (why && !(succeeded && why == api::Outcome::preempted)) {
    record.outcome = *why;
    if (stopped_) record.error = stop_error_;
  }
  // Of the lane's group, whose counters are never set back: what rose since the task before.
  const sandbox::MemoryReport memory = sandbox::read_memory(cgroup_);
  if (memory.oom_kills > std::exchange(oom_kills_seen_, memory.oom_kills)) {
    record.memory_peak_bytes = memory.peak_bytes;
    set_out_of_memory(record, memory, largest_bytes);
  }
  return record;
}

void Keeper::settle_exits() {
  if (!lane_->owes_words()) return;
  const bool at_rest = !lane_->runs() && !lane_->has_waiting();
  const std::int64_t pause_ms = kSettlePauseMs - (steady_ns() - settled_ns_) / kNsPerMs;
  if (at_rest || pause_ms <= 0) return settle_exits_now();
  if (deadlines_ns_[static_cast<std::size_t>(Timer::settle)] == 0) arm(Timer::settle, pause_ms);
}

void Keeper::settle_exits_now() {
  disarm(Timer::settle);
  if (!lane_->owes_words()) return;
  auto packets = lane_->settle();
  if (!packets) give_up_lane(packets.error());
  for (const Json& packet : *packets) link_.tell(packet);
  settled_ns_ = steady_ns();
}

// Without a record: the node fences, and what has no exit in the journal is tried again.
void Keeper::give_up_lane(const Error& error) {
  log_error(plan_.folder + ": " + error.text);
  ::_exit(1);
}

}  // namespace loam::shim
