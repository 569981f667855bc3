#include "shim/keeper.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/clock.h"
#include "base/crash_point.h"
#include "base/files.h"
#include "base/packet.h"
#include "shim/exit_record.h"
#include "shim/plan.h"

namespace loam::shim {
namespace {

constexpr std::int64_t kClientWaitMs = 30'000;   // for the terminal's other end
constexpr std::int64_t kWindowSizeWaitMs = 300;  // for its size, once it is there
constexpr int kMemoryChecks = 10;
constexpr std::int64_t kLeftoversLimitMs = 10'000;  // of a lane's task, killed already
constexpr std::int64_t kNanosecondsPerMs = 1'000'000;

}  // namespace

Keeper::Keeper(api::AttemptPlan plan, NodeLink link, OutputLog log, const sandbox::Shared& shared)
    : plan_(std::move(plan)),
      shared_(shared),
      link_(std::move(link)),
      log_(std::move(log)),
      sessions_(plan_.attempt, {.uid = plan_.uid, .gid = plan_.gid, .groups = plan_.groups}),
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
  if (auto room = reserve_exit_record(plan_.folder); !room) return fail_to_start(room.error().text);
  if (auto held = devices_.take(plan_); !held) return fail_to_start(held.error().text);
  if (auto opened = open_lane(); !opened) return fail_to_start(opened.error().text);
  std::uint16_t port = 0;
  if (!plan_.ranks.empty()) {
    auto rendezvous = take_rendezvous(plan_);
    if (!rendezvous) return fail_to_start(rendezvous.error().text);
    port = rendezvous->port;
    rendezvous_ = std::move(rendezvous->reserved);
  }
  auto sandbox = sandbox::start_sandbox(sandbox_spec(plan_, port), shared_);
  if (!sandbox) return fail_to_start(sandbox.error().text);
  sandbox_ = std::move(*sandbox);
  missing_ = missing_guards(plan_, sandbox_);
  if (auto unmet = unmet_requirement(plan_, missing_); !unmet.empty()) {
    start_failure_ = std::move(unmet);
    return kill_all();
  }
  if (cgroup_.v2.empty() && sandbox_.pid_namespace.known()) {
    // What a node fences by when this process should be gone.
    auto written = write_file_atomic(plan_.folder + "/pid_namespace",
                                     sandbox::to_text(sandbox_.pid_namespace), {.durable = false});
    if (written) written = devices_.name_namespace(plan_, sandbox_.pid_namespace);
    if (!written) {
      start_failure_ = written.error().text;
      return kill_all();
    }
  }
  streams_.take_pipes(sandbox_);
  rank_streams_.take_pipes(std::move(sandbox_.rank_outputs));
  if (plan_.terminal) streams_.await_terminal();
  if (!live_clients()) return go();
  state_ = State::waiting_for_client;
  arm(Timer::client, kClientWaitMs);
}

// The job may ask for its window's size at once: not before the terminal has come and has it.
void Keeper::go() {
  disarm(Timer::client);
  go_due_ = streams_.awaits_terminal();
  if (go_due_) return;
  state_ = State::starting;
  send_control(sandbox::Control::go);
}

// ---- the loop ----

void Keeper::turn() {
  std::vector<pollfd> polls;
  link_.add_polls(polls);
  clients_.add_polls(polls, streams_.takes_input());
  streams_.add_polls(polls, !clients_.holds_back());
  rank_streams_.add_polls(polls);
  sessions_.add_polls(polls);
  polls.push_back({sandbox_.report.get(), POLLIN, 0});
  polls.push_back({sandbox_.control.get(), POLLIN, 0});
  polls.push_back({state_ == State::ended ? -1 : sandbox_.init.pidfd(), POLLIN, 0});
  polls.push_back(memory_.poll_entry());
  if (state_ == State::ended) polls.back().fd = -1;
  polls.push_back(lane_ ? lane_->poll_entry() : pollfd{-1, 0, 0});
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
  const pollfd* const ranks_at = streams_at + 3;
  const pollfd* const sessions_at = ranks_at + rank_streams_.poll_count();
  const pollfd* const own = sessions_at + sessions_.poll_count();
  streams_.handle(streams_at, [this](api::AttachFrame type, std::string_view bytes) {
    on_output(type, bytes);
  });
  rank_streams_.handle(ranks_at, [this](std::string_view bytes) {
    on_output(api::AttachFrame::output, bytes);
  });
  // on_output may have dropped a client: its entry then no longer matches, and the next turn asks
  // again.
  if (clients_.poll_count() == client_count) {
    clients_.handle(clients_at, [this](const api::Frame& frame) { on_frame(frame); });
  }
  sessions_.handle(sessions_at, sandbox_.control.get());
  if (own[4].revents != 0) lane_->read_output();
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
      return lane_ ? stop_task(api::Outcome::timed_out) : stop(api::Outcome::timed_out);
    case Timer::idle:
      return check_idle();
    case Timer::grace:
      return lane_ ? on_lane_grace() : kill_all();
    case Timer::settle:
      return settle_exits_now();
    case Timer::out_of_memory:
      return check_memory();
    case Timer::unkillable: {
      api::ExitRecord record = ended_record();
      record.outcome = api::Outcome::unkillable;
      record.error =
          "processes remain after SIGKILL (a device or filesystem holds them in the kernel)";
      end_with_lane(true);
      sandbox_.init.release();
      return finish(std::move(record));
    }
    case Timer::farewell:
      clients_ = Clients();
      sessions_.drop_all();
      return;
    case Timer::count:
      break;
  }
}

// A kStartedMark of each process, and the end once the last exec has closed the pipe; or texts, of
// which the first is told.
void Keeper::on_report() {
  char bytes[4096];
  const ssize_t count = ::read(sandbox_.report.get(), bytes, sizeof bytes);
  if (count < 0 && errno == EINTR) return;
  if (count > 0) {
    report_.append(bytes, static_cast<std::size_t>(count));
    return;
  }
  sandbox_.report.reset();
  const std::size_t processes = std::max<std::size_t>(plan_.ranks.size(), 1);
  if (report_ != std::string(processes, sandbox::kStartedMark)) {
    std::erase(report_, sandbox::kStartedMark);
    if (!report_.empty()) start_failure_ = report_.c_str();  // to the first one's end
    return kill_all();
  }
  LOAM_CRASH_POINT("shim.before_running");
  state_ = State::running;
  started_ms_ = wall_ms();
  if (plan_.time_limit_ms > 0 && !lane_) arm(Timer::time_limit, plan_.time_limit_ms);
  active_ns_ = steady_ns();
  if (plan_.idle_limit_ms > 0) check_idle();
  link_.announce(Json::object(
      {{"type", "running"}, {"started_ms", started_ms_}, {"missing", api::to_json(missing_)}}));
  LOAM_CRASH_POINT("shim.running");
  start_sessions();
  if (lane_) {
    next_task();
    settle_exits();
  }
  if (failed_rank_) end_other_ranks();
}

// False where there is nothing more to hear now.
bool Keeper::on_control() {
  sandbox::InitPacket packet;
  ReceivedPacket received = receive_packet(
      sandbox_.control.get(), std::span(reinterpret_cast<char*>(&packet), sizeof packet), MSG_DONTWAIT);
  if (received.size_bytes < 0 && errno == EAGAIN) return false;
  if (received.size_bytes != sizeof packet) {
    sandbox_.control.reset();
    return false;
  }
  if (packet.kind == 'e') {
    status_ = packet.status;
    largest_bytes_ = packet.largest_bytes;
  }
  if (packet.kind == 'r') on_rank_end(packet);
  if (packet.kind == 'w') arm(Timer::unkillable, kLeftoversLimitMs);
  if (packet.kind == 'd') on_task_end(packet);
  if (packet.kind == 'x') sessions_.on_end(packet.session, packet.status);
  if (packet.kind == 'n' && !received.descriptors.empty())
    sessions_.take_terminal(packet.session, std::move(received.descriptors.front()));
  if (packet.kind == 'c')
    sessions_.take_connection(
        packet.session,
        received.descriptors.empty() ? Fd() : std::move(received.descriptors.front()),
        packet.status);
  if (packet.kind == 's' && std::exchange(checkpoint_asked_, false) && packet.status == 0)
    terminate(plan_.checkpoint_grace_ms);
  if (packet.kind == 'm' && !received.descriptors.empty()) {
    streams_.take_terminal(std::move(received.descriptors.front()));
    if (go_due_ && state_ == State::waiting_for_client) go();
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
  if (type == "join") {
    sessions_.add(packet, std::move(descriptor));
    state_ == State::ended ? sessions_.finish_all(kEndedWords) : start_sessions();
  }
  if (state_ == State::ended) return;
  if (lane_) on_lane_packet(type, packet);
  if (type == "stop" && !packet.has("attempt")) {
    const auto outcome = api::outcome_from(packet["outcome"].as_string());
    stop(outcome.value_or(api::Outcome::cancelled), packet["error"].as_string());
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

void Keeper::start_sessions() {
  if (state_ == State::running && sandbox_.control) sessions_.start(sandbox_.control.get());
}

void Keeper::on_frame(const api::Frame& frame) {
  const auto byte_at = [&](std::size_t i) {
    return static_cast<unsigned>(static_cast<unsigned char>(frame.payload[i]));
  };
  if (frame.type == api::AttachFrame::input) {
    active_ns_ = steady_ns();
    streams_.add_input(frame.payload);
  }
  if (frame.type == api::AttachFrame::resize && frame.payload.size() == 4) {
    streams_.resize(byte_at(0) | byte_at(1) << 8, byte_at(2) | byte_at(3) << 8);
    if (state_ == State::waiting_for_client) go();
  }
  if (frame.type == api::AttachFrame::signal && frame.payload.size() == 1)
    signal_group(static_cast<int>(byte_at(0)));
}

void Keeper::on_output(api::AttachFrame type, std::string_view bytes) {
  active_ns_ = steady_ns();
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
