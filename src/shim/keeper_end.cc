// How an attempt ends: what is asked of its processes, when they are killed, what its record says.
//
//   stop ─ checkpoint's signal, or TERM ─ grace ─▶ kill_all ─▶ on_init_end ─ the group is empty ─▶
//   finish: record, devices, the node, the clients
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "base/clock.h"
#include "base/crash_point.h"
#include "base/text.h"
#include "shim/exit_record.h"
#include "shim/keeper.h"

namespace loam::shim {
namespace {

constexpr std::int64_t kKillLimitMs = 10'000;  // then the attempt is unkillable
constexpr std::int64_t kFarewellMs = 10'000;   // for slow clients to take the last output
constexpr std::int64_t kMemoryCheckMs = 10;    // the event comes before the kill that it announces
constexpr std::int64_t kInitKillLimitMs = 1'000;
constexpr std::int64_t kIdleToldMs = 300'000;  // before an idle job's end, at most
constexpr std::int64_t kNsPerMs = 1'000'000;

}  // namespace

// TERM to every process, KILL after the grace. A preemption first tries the checkpoint's signal:
// those who catch it have the grace to save and end; where nobody does (init tells), TERM. A second
// request changes nothing, but a cancellation ends the patience of a preemption, and so does a full
// disk: a grace would fill it further.
void Keeper::stop(api::Outcome why, const std::string& error) {
  // A gang that has failed is about to end: it need not be told to make room, and that would hide the failure.
  const bool patient = why != api::Outcome::cancelled && why != api::Outcome::disk_full;
  if (failed_rank_ && !stopped_ && patient) return;
  const bool overrides = stopped_ == api::Outcome::preempted && !patient;
  if (state_ == State::ended || (stopped_ && !overrides)) return;
  stopped_ = why;
  stop_error_ = error;
  checkpoint_asked_ = false;
  disarm(Timer::time_limit);
  if ((state_ != State::running && state_ != State::starting) || why == api::Outcome::disk_full)
    return kill_all();
  if (killed_) return;
  if (lane_ && !lane_->runs()) return kill_all();
  if (why != api::Outcome::preempted || plan_.checkpoint_signal == 0)
    return terminate(plan_.grace_ms);
  checkpoint_asked_ = true;
  send_control(sandbox::Control::signal_catching, plan_.checkpoint_signal);
  arm(Timer::grace, plan_.checkpoint_grace_ms);
}

// One timer, moved on when it fires, so that a keystroke costs no more than a look at the clock. Who
// has joined the job is somebody at work in it.
void Keeper::check_idle() {
  if (stopped_ || state_ == State::ended) return;
  if (sessions_.any()) active_ns_ = steady_ns();
  const std::int64_t idle_ms = (steady_ns() - active_ns_) / kNsPerMs;
  const std::int64_t tell_ms = plan_.idle_limit_ms - std::min(plan_.idle_limit_ms / 5, kIdleToldMs);
  const std::string limit = format_duration(std::chrono::milliseconds(plan_.idle_limit_ms));
  if (idle_ms >= plan_.idle_limit_ms)
    return stop(api::Outcome::timed_out, "idle for " + limit);
  if (idle_ms < tell_ms) {
    idle_told_ = false;
    return arm(Timer::idle, tell_ms - idle_ms);
  }
  if (!std::exchange(idle_told_, true))
    clients_.send_live(api::AttachFrame::output,
                       "\r\nloam: nothing typed or said for " + format_duration(std::chrono::milliseconds(idle_ms)) +
                           "; after " + limit + " this job ends (--idle). Any key keeps it.\r\n");
  arm(Timer::idle, plan_.idle_limit_ms - idle_ms);
}

void Keeper::terminate(std::int64_t grace_ms) {
  send_control(sandbox::Control::terminate);
  arm(Timer::grace, grace_ms);
}

// The others wait for one that is gone, each in its own way: they are told to end. What has not yet
// been executed could not take that as what it is; the report tells when all have.
void Keeper::on_rank_end(const sandbox::InitPacket& packet) {
  if (packet.status == 0 || failed_rank_) return;
  failed_rank_ = {.rank = packet.rank, .status = packet.status};
  if (state_ == State::running) end_other_ranks();
}

void Keeper::end_other_ranks() {
  if (stopped_ || killed_) return;
  disarm(Timer::time_limit);
  terminate(plan_.grace_ms);
}

void Keeper::kill_all() {
  if (killed_ || !sandbox_.init.valid()) return;
  killed_ = true;
  disarm(Timer::grace);
  sandbox::lift_cpu_limit(cgroup_);
  // The end of pid 1 ends its namespace; its pidfd tells when the last process has gone.
  (void)sandbox_.init.signal(SIGKILL);
  arm(Timer::unkillable, kKillLimitMs);
}

// The counter, not the signal, is the evidence; when it rises the whole attempt ends, so that no
// half of a job goes on without the other.
void Keeper::check_memory() {
  if (state_ == State::ended || killed_) return;
  if (sandbox::read_memory(cgroup_).oom_kills > oom_kills_seen_) {
    // By init, so that it reaps them all and can tell the largest; by this process where init does
    // not.
    sandbox::lift_cpu_limit(cgroup_);
    send_control(sandbox::Control::kill);
    task_kill_asked_ = true;
    return arm(Timer::grace, kInitKillLimitMs);
  }
  if (--memory_checks_left_ > 0) arm(Timer::out_of_memory, kMemoryCheckMs);
}

void Keeper::on_init_end() {
  // The last words may have come with the end; both streams end with their writers.
  while (on_control()) {
  }
  while (sandbox_.report) on_report();
  int status = 0;
  rusage usage{};
  while (::wait4(sandbox_.init.pid(), &status, 0, &usage) < 0 && errno == EINTR) {
  }
  largest_bytes_ = std::max(largest_bytes_, std::int64_t{usage.ru_maxrss} * 1024);
  sandbox_.init.release();
  // A record implies that no process remains. pid 1's end has seen to that; the cgroup is asked all
  // the same.
  const auto emptied = sandbox::kill_cgroup(cgroup_, kKillLimitMs);
  streams_.drain([this](api::AttachFrame type, std::string_view bytes) { on_output(type, bytes); });
  rank_streams_.drain(
      [this](std::string_view bytes) { on_output(api::AttachFrame::output, bytes); });
  end_with_lane(!emptied);
  api::ExitRecord record = ended_record();
  if (!emptied) {
    record.outcome = api::Outcome::unkillable;
    record.error = emptied.error().text;
  }
  finish(std::move(record));
}

// As waitpid's.
void Keeper::set_status(api::ExitRecord& record, int status) {
  record.outcome = WIFSIGNALED(status) ? api::Outcome::signaled : api::Outcome::exited;
  record.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  record.code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

void Keeper::set_out_of_memory(api::ExitRecord& record, const sandbox::MemoryReport& memory,
                               std::int64_t largest_bytes) {
  record.outcome = api::Outcome::out_of_memory;
  record.error = "out of memory: charged peak " + format_size(memory.peak_bytes) + " of limit " +
                 format_size(plan_.memory_bytes) + " (includes cache), largest process " +
                 format_size(static_cast<std::uint64_t>(largest_bytes));
}

api::ExitRecord Keeper::ended_record() {
  api::ExitRecord record;
  record.attempt = plan_.attempt;
  record.started_ms = started_ms_;
  const sandbox::MemoryReport memory = sandbox::read_memory(cgroup_);
  record.memory_peak_bytes = memory.peak_bytes;
  record.memory_limit_bytes = plan_.memory_bytes;
  record.cpu_ns = sandbox::read_cpu_ns(cgroup_);
  record.missing = missing_;
  // Of a gang the first that failed counts. Without a word from init it was killed from outside.
  const int status = failed_rank_ ? failed_rank_->status : status_.value_or(SIGKILL);
  set_status(record, status);
  // One rank ended by itself, another was killed in the midst of what it wrote.
  if (failed_rank_ && stopped_ && killed_) {
    record.outcome = api::Outcome::signaled;
    record.signal = SIGKILL;
    record.code = 0;
  }
  // Whoever finishes in the grace of a preemption has finished.
  const bool succeeded = record.outcome == api::Outcome::exited && record.code == 0;
  if (stopped_ && !(succeeded && stopped_ == api::Outcome::preempted)) {
    record.outcome = *stopped_;
    record.error = stop_error_;
  }
  if (memory.oom_kills > oom_kills_seen_) set_out_of_memory(record, memory, largest_bytes_);
  if (state_ != State::running && !stopped_) {
    record.device = devices_.busy_device();
    record.outcome =
        record.device.empty() ? api::Outcome::failed_to_start : api::Outcome::device_busy;
    record.code = record.signal = 0;
    record.error =
        start_failure_.value_or("the sandbox's first process was killed before the job's started");
  }
  const bool of_its_own =
      record.outcome == api::Outcome::exited || record.outcome == api::Outcome::signaled;
  if (failed_rank_ && of_its_own) record.rank = failed_rank_->rank;
  return record;
}

void Keeper::fail_to_start(std::string why) {
  start_failure_ = std::move(why);
  finish(ended_record());
}

void Keeper::finish(api::ExitRecord record) {
  state_ = State::ended;
  if (lane_) settle_exits_now();
  record.ended_ms = wall_ms();
  for (std::int64_t& deadline : deadlines_ns_) deadline = 0;
  LOAM_CRASH_POINT("shim.before_exit_record");
  written_ = write_exit_record(plan_.folder, record);
  // Before anybody hears of the end: the next attempt's shim must find them free. What still has
  // processes keeps its devices for as long as this process lives.
  if (record.outcome != api::Outcome::unkillable) devices_.release();
  LOAM_CRASH_POINT("shim.after_exit_record");
  const Json document = api::to_json(record);
  link_.announce(Json::object({{"type", "exited"}, {"record", document}}));
  LOAM_CRASH_POINT("shim.after_exit_packet");
  clients_.finish(document.dump());
  sessions_.finish_all(kEndedWords);
  arm(Timer::farewell, kFarewellMs);
}

bool Keeper::may_leave() const {
  return state_ == State::ended && !clients_.any() && !sessions_.any() && (committed_ || !link_.connected());
}

}  // namespace loam::shim
