#include "shim/keeper.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "base/crash_point.h"
#include "base/files.h"
#include "base/text.h"
#include "shim/exit_record.h"
#include "shim/plan.h"

namespace loam::shim {
namespace {

constexpr std::int64_t kClientWaitMs = 30'000;   // for the terminal's other end
constexpr std::int64_t kWindowSizeWaitMs = 300;  // for its size, once it is there
constexpr std::int64_t kKillLimitMs = 10'000;    // then the attempt is unkillable
constexpr std::int64_t kFarewellMs = 10'000;     // for slow clients to take the last output
constexpr std::int64_t kMemoryCheckMs = 10;  // the event comes before the kill that it announces
constexpr int kMemoryChecks = 10;
constexpr std::int64_t kInitKillLimitMs = 1'000;
constexpr std::int64_t kNanosecondsPerMs = 1'000'000;

}  // namespace

Keeper::Keeper(api::AttemptPlan plan, NodeLink link, OutputLog log)
    : plan_(std::move(plan)),
      link_(std::move(link)),
      log_(std::move(log)),
      memory_({.v2 = plan_.cgroup.v2, .v1 = plan_.cgroup.v1}),
      cgroup_{.v2 = plan_.cgroup.v2, .v1 = plan_.cgroup.v1} {}

Result<void> Keeper::run() {
  started_ms_ = wall_ms();
  LOAM_CRASH_POINT("shim.start");
  start();
  while (!may_leave()) turn();
  return std::move(written_);
}

void Keeper::start() {
  auto sandbox = sandbox::start_sandbox(sandbox_spec(plan_));
  if (!sandbox) return fail_to_start(sandbox.error().text);
  sandbox_ = std::move(*sandbox);
  missing_ = missing_guards(sandbox_);
  if (auto unmet = unmet_requirement(plan_, missing_); !unmet.empty()) {
    start_failure_ = std::move(unmet);
    return kill_all();
  }
  if (cgroup_.v2.empty() && sandbox_.pid_namespace != 0) {
    // What a node fences by when this process should be gone.
    auto written = write_file_atomic(plan_.folder + "/pid_namespace",
                                     std::to_string(sandbox_.pid_namespace), {.durable = false});
    if (!written) {
      start_failure_ = written.error().text;
      return kill_all();
    }
  }
  streams_.take_pipes(sandbox_);
  if (!live_clients()) return go();
  state_ = State::waiting_for_client;
  arm(Timer::client, kClientWaitMs);
}

void Keeper::go() {
  disarm(Timer::client);
  state_ = State::starting;
  send_control(sandbox::Control::go);
}

// ---- the loop ----

void Keeper::turn() {
  std::vector<pollfd> polls;
  link_.add_polls(polls);
  clients_.add_polls(polls, streams_.takes_input());
  streams_.add_polls(polls, !clients_.holds_back());
  polls.push_back({sandbox_.report.get(), POLLIN, 0});
  polls.push_back({sandbox_.control.get(), POLLIN, 0});
  polls.push_back({state_ == State::ended ? -1 : sandbox_.init.pidfd(), POLLIN, 0});
  polls.push_back(memory_.poll_entry());
  if (state_ == State::ended) polls.back().fd = -1;
  const int count = ::poll(polls.data(), polls.size(), poll_timeout_ms());
  LOAM_ASSERT(count >= 0 || errno == EINTR);
  if (count > 0) handle_events(polls);
  for (std::size_t i = 0; i < static_cast<std::size_t>(Timer::count); ++i)
    if (deadlines_ns_[i] != 0 && steady_ns() >= deadlines_ns_[i]) {
      deadlines_ns_[i] = 0;
      on_timer(static_cast<Timer>(i));
    }
}

// In the order of turn(); what is about the job's own end comes last, so that its last words are
// heard before.
void Keeper::handle_events(const std::vector<pollfd>& polls) {
  const pollfd* at = polls.data();
  const std::size_t link_count = link_.poll_count(), client_count = clients_.poll_count();
  const pollfd* const clients_at = at + link_count;
  const pollfd* const streams_at = clients_at + client_count;
  const pollfd* const own = streams_at + 3;
  streams_.handle(streams_at, [this](api::AttachFrame type, std::string_view bytes) {
    on_output(type, bytes);
  });
  // on_output may have dropped a client: its entry then no longer matches, and the next turn asks
  // again.
  if (clients_.poll_count() == client_count) {
    clients_.handle(clients_at, [this](const api::Frame& frame) { on_frame(frame); });
  }
  link_.handle(at, [this](const Json& packet, Fd fd) { on_packet(packet, std::move(fd)); });
  if (clients_.take_hang_up()) on_hang_up();
  if (own[0].revents != 0) on_report();
  if (own[1].revents != 0) on_control();
  if (own[3].revents != 0) {
    memory_.acknowledge();
    memory_checks_left_ = kMemoryChecks;
    check_memory();
  }
  if (own[2].revents != 0 && state_ != State::ended) on_init_end();
}

void Keeper::on_timer(Timer timer) {
  switch (timer) {
    case Timer::client:
      if (state_ != State::waiting_for_client) return;
      // Nobody came for a terminal: nobody can rejoin it later either.
      if (plan_.terminal && plan_.standard_input && !clients_.any()) return on_hang_up();
      return go();
    case Timer::time_limit:
      return stop(api::Outcome::timed_out);
    case Timer::grace:
      return kill_all();
    case Timer::out_of_memory:
      return check_memory();
    case Timer::unkillable: {
      api::ExitRecord record = ended_record();
      record.outcome = api::Outcome::unkillable;
      record.error =
          "processes remain after SIGKILL (a device or filesystem holds them in the kernel)";
      sandbox_.init.release();
      return finish(std::move(record));
    }
    case Timer::farewell:
      clients_ = Clients();
      return;
    case Timer::count:
      break;
  }
}

// "" or text until init has forked; then kStartedMark, and the end once the exec has closed the
// pipe.
void Keeper::on_report() {
  char bytes[4096];
  const ssize_t count = ::read(sandbox_.report.get(), bytes, sizeof bytes);
  if (count < 0 && errno == EINTR) return;
  if (count > 0) {
    report_.append(bytes, static_cast<std::size_t>(count));
    return;
  }
  sandbox_.report.reset();
  const bool executed = report_.size() == 1 && report_[0] == sandbox::kStartedMark;
  if (!executed) {
    if (!report_.empty() && report_[0] == sandbox::kStartedMark) report_.erase(0, 1);
    if (!report_.empty()) start_failure_ = report_;
    return kill_all();
  }
  LOAM_CRASH_POINT("shim.before_running");
  state_ = State::running;
  started_ms_ = wall_ms();
  if (plan_.time_limit_ms > 0) arm(Timer::time_limit, plan_.time_limit_ms);
  link_.announce(Json::object(
      {{"type", "running"}, {"started_ms", started_ms_}, {"missing", api::to_json(missing_)}}));
  LOAM_CRASH_POINT("shim.running");
}

// False where there is nothing more to hear now.
bool Keeper::on_control() {
  sandbox::InitPacket packet;
  iovec part{&packet, sizeof packet};
  alignas(cmsghdr) char buffer[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = buffer;
  message.msg_controllen = sizeof buffer;
  const ssize_t got = ::recvmsg(sandbox_.control.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (got != sizeof packet) {
    sandbox_.control.reset();
    return false;
  }
  if (packet.kind == 'e') {
    status_ = packet.status;
    largest_bytes_ = packet.largest_bytes;
  }
  const cmsghdr* const header = CMSG_FIRSTHDR(&message);
  if (packet.kind == 'm' && header != nullptr && header->cmsg_type == SCM_RIGHTS) {
    int fd = -1;
    ::memcpy(&fd, CMSG_DATA(header), sizeof fd);
    streams_.take_terminal(Fd(fd));
  }
  return true;
}

// ---- what others ask for ----

void Keeper::on_packet(const Json& packet, Fd descriptor) {
  const std::string& type = packet["type"].as_string();
  if (type == "committed" && state_ == State::ended) committed_ = true;
  if (type == "attach") {
    clients_.add(std::move(descriptor),
                 live_clients() ? std::nullopt : std::optional(log_.folder()));
    if (state_ == State::waiting_for_client)
      plan_.terminal ? arm(Timer::client, kWindowSizeWaitMs) : go();
  }
  if (state_ == State::ended) return;
  if (type == "stop") {
    const auto outcome = api::outcome_from(packet["outcome"].as_string());
    stop(outcome.value_or(api::Outcome::cancelled));
  }
  if (type == "kill") {
    if (!stopped_) stopped_ = api::Outcome::cancelled;
    kill_all();
  }
  if (type == "signal") {
    const auto number = static_cast<int>(packet["number"].as_int());
    const bool checkpoint = number == SIGUSR1 || number == SIGUSR2;
    send_control(checkpoint ? sandbox::Control::signal_catching : sandbox::Control::signal_group,
                 number);
  }
}

void Keeper::on_frame(const api::Frame& frame) {
  const auto byte_at = [&](std::size_t i) {
    return static_cast<unsigned>(static_cast<unsigned char>(frame.payload[i]));
  };
  if (frame.type == api::AttachFrame::input) streams_.add_input(frame.payload);
  if (frame.type == api::AttachFrame::resize && frame.payload.size() == 4) {
    streams_.resize(byte_at(0) | byte_at(1) << 8, byte_at(2) | byte_at(3) << 8);
    if (state_ == State::waiting_for_client) go();
  }
  if (frame.type == api::AttachFrame::signal && frame.payload.size() == 1)
    signal_group(static_cast<int>(byte_at(0)));
}

void Keeper::on_output(api::AttachFrame type, std::string_view bytes) {
  log_.append(bytes);
  if (live_clients())
    clients_.send_live(type, bytes);
  else
    clients_.feed_viewers();
}

// The last client has gone. Nobody can join a terminal again: it is hung up, and who stays all the
// same is killed after the grace. Without a terminal only the input ends.
void Keeper::on_hang_up() {
  if (state_ == State::ended) return;
  if (!plan_.terminal) return streams_.end_input();
  streams_.hang_up(
      [this](api::AttachFrame type, std::string_view bytes) { on_output(type, bytes); });
  if (state_ != State::running && state_ != State::starting) return stop(api::Outcome::cancelled);
  if (stopped_) return;
  stopped_ = api::Outcome::cancelled;
  disarm(Timer::time_limit);
  arm(Timer::grace, std::max<std::int64_t>(plan_.grace_ms, 0));
}

// A terminal's foreground job, else the group that the user's process leads.
void Keeper::signal_group(int number) {
  if (number <= 0 || number >= NSIG) return;
  if (const pid_t group = streams_.foreground_group(); group > 0)
    (void)::kill(-group, number);
  else
    send_control(sandbox::Control::signal_group, number);
}

void Keeper::send_control(sandbox::Control kind, int number) {
  if (!sandbox_.control || number < 0 || number > 255) return;
  const sandbox::ControlPacket packet{.kind = kind, .number = static_cast<std::uint8_t>(number)};
  (void)::send(sandbox_.control.get(), &packet, sizeof packet, MSG_NOSIGNAL | MSG_DONTWAIT);
}

// ---- the end ----

// TERM to every process, KILL after the grace. A second request changes nothing.
void Keeper::stop(api::Outcome why) {
  if (state_ == State::ended || stopped_) return;
  stopped_ = why;
  disarm(Timer::time_limit);
  if (state_ != State::running && state_ != State::starting) return kill_all();
  send_control(sandbox::Control::terminate);
  arm(Timer::grace, std::max<std::int64_t>(plan_.grace_ms, 0));
}

void Keeper::kill_all() {
  if (killed_ || !sandbox_.init.valid()) return;
  killed_ = true;
  disarm(Timer::grace);
  // The end of pid 1 ends its namespace; its pidfd tells when the last process has gone.
  (void)sandbox_.init.signal(SIGKILL);
  arm(Timer::unkillable, kKillLimitMs);
}

// The counter, not the signal, is the evidence; when it rises the whole attempt ends, so that no
// half of a job goes on without the other.
void Keeper::check_memory() {
  if (state_ == State::ended || killed_) return;
  if (sandbox::read_memory(cgroup_).oom_kills > 0) {
    // By init, so that it reaps them all and can tell the largest; by this process where init does
    // not.
    send_control(sandbox::Control::kill);
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
  api::ExitRecord record = ended_record();
  if (!emptied) {
    record.outcome = api::Outcome::unkillable;
    record.error = emptied.error().text;
  }
  finish(std::move(record));
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
  const int status =
      status_.value_or(SIGKILL);  // without a word from init it was killed from outside
  record.outcome = WIFSIGNALED(status) ? api::Outcome::signaled : api::Outcome::exited;
  record.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  record.code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
  if (stopped_) record.outcome = *stopped_;
  if (memory.oom_kills > 0) {
    record.outcome = api::Outcome::out_of_memory;
    record.error = "out of memory: charged peak " + format_size(memory.peak_bytes) + " of limit " +
                   format_size(plan_.memory_bytes) + " (includes cache), largest process " +
                   format_size(static_cast<std::uint64_t>(largest_bytes_));
  }
  if (state_ != State::running && !stopped_) {
    record.outcome = api::Outcome::failed_to_start;
    record.code = record.signal = 0;
    record.error =
        start_failure_.value_or("the sandbox's first process was killed before the job's started");
  }
  return record;
}

void Keeper::fail_to_start(std::string why) {
  start_failure_ = std::move(why);
  finish(ended_record());
}

void Keeper::finish(api::ExitRecord record) {
  state_ = State::ended;
  record.ended_ms = wall_ms();
  for (std::int64_t& deadline : deadlines_ns_) deadline = 0;
  LOAM_CRASH_POINT("shim.before_exit_record");
  written_ = write_exit_record(plan_.folder, record);
  LOAM_CRASH_POINT("shim.after_exit_record");
  const Json document = api::to_json(record);
  link_.announce(Json::object({{"type", "exited"}, {"record", document}}));
  LOAM_CRASH_POINT("shim.after_exit_packet");
  clients_.finish(document.dump());
  arm(Timer::farewell, kFarewellMs);
}

bool Keeper::may_leave() const {
  return state_ == State::ended && !clients_.any() && (committed_ || !link_.connected());
}

// ---- timers ----

void Keeper::arm(Timer timer, std::int64_t delay_ms) {
  deadlines_ns_[static_cast<std::size_t>(timer)] =
      steady_ns() + std::max<std::int64_t>(delay_ms, 0) * kNanosecondsPerMs;
}

void Keeper::disarm(Timer timer) { deadlines_ns_[static_cast<std::size_t>(timer)] = 0; }

int Keeper::poll_timeout_ms() const {
  std::int64_t nearest = 0;
  for (const std::int64_t deadline : deadlines_ns_)
    if (deadline != 0 && (nearest == 0 || deadline < nearest)) nearest = deadline;
  if (nearest == 0) return -1;
  const std::int64_t left_ms = (nearest - steady_ns() + kNanosecondsPerMs - 1) / kNanosecondsPerMs;
  return static_cast<int>(std::clamp<std::int64_t>(left_ms, 0, 3'600'000));
}

}  // namespace loam::shim
