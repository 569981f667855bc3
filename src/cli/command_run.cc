#include "cli/command_run.h"

#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/clock.h"
#include "base/text.h"
#include "cli/follow.h"
#include "cli/report.h"
#include "cli/verb.h"
#include "cli/words.h"
#include "engines/sse.h"

namespace loam::cli {
namespace {

constexpr std::int64_t kNsPerMs = 1'000'000;
constexpr std::int64_t kQuietNs = 250 * kNsPerMs;       // a start that takes longer is told of
constexpr int kStatusBusy = 409;                        // too many wait for this attempt
constexpr std::int64_t kReachLimitNs = 10'000'000'000;  // until a lost node is given up
constexpr int kReachRetryMs = 200;
constexpr std::int64_t kCommitLimitNs = 10'000'000'000;  // until an end that is known is recorded, too

class Watch {
 public:
  Watch(Console& console, const engines::LocalNode& node, Signals& signals,
        const CommandRun& command)
      : console_(console),
        node_(node),
        signals_(signals),
        command_(command),
        target_(std::to_string(command.run)),
        report_(console, command.run, false, true) {}

  int run() {
    if (command_.interrupted) interrupt();
    auto connection = attach();
    if (left_) return *left_;
    if (!connection) return without_attachment(0);
    AttachOptions options;
    options.terminal = command_.terminal;
    options.input = command_.input;
    options.cancel = [this] { interrupt(); };
    const AttachEnd end = run_attach_session(console_, signals_, std::move(*connection), options);
    if (end.kind == AttachEnd::Kind::left) return end.status;
    if (end.kind == AttachEnd::Kind::lost) {
      if (command_.terminal) console_.warn_text("\n");
      return without_attachment(end.output_bytes);
    }
    const int status = tell_exit(end.exit_record);
    await_commit();
    return status;
  }

 private:
  // The node answers once the command has an attempt, or has ended without one. While we wait, what
  // it waits for is told; a node that goes away meanwhile is asked again when it is back.
  std::optional<engines::Exchange::Upgraded> attach() {
    const std::int64_t quiet_until_ns = steady_ns() + kQuietNs;
    while (!left_) {
      auto exchange = node_.open_upgrade("/v1/attach/" + target_, "loam-attach");
      const int status = exchange ? await_head(*exchange, quiet_until_ns) : 0;
      if (left_) break;
      if (status == 101) return exchange->take_upgraded();
      if (status != 0 && status != kStatusBusy) return std::nullopt;
      if (status == 0) {
        events_.reset();
        const auto run = read_run();
        if (!run || left_ || run_has_settled((*run)["state"].as_string())) return std::nullopt;
      }
      ::poll(nullptr, 0, kReachRetryMs);
      take_signals();
    }
    return std::nullopt;
  }

  // The status of the node's answer, 0 where none came.
  int await_head(engines::Exchange& exchange, std::int64_t quiet_until_ns) {
    std::string body;
    while (!exchange.has_head()) {
      pollfd polls[3] = {{exchange.fd(), POLLIN, 0},
                         {signals_.fd(), POLLIN, 0},
                         {events_ ? events_->fd() : -1, POLLIN, 0}};
      int timeout_ms = -1;
      if (!events_ && !events_ended_) {
        const std::int64_t left_ns = quiet_until_ns - steady_ns();
        timeout_ms = left_ns <= 0 ? 0 : static_cast<int>(left_ns / kNsPerMs) + 1;
      }
      const int count = ::poll(polls, 3, timeout_ms);
      if (count < 0 && errno != EINTR) return 0;
      if (count == 0) open_events();
      if (count <= 0) continue;
      if (polls[1].revents != 0) take_signals();
      if (left_) return 0;
      if (polls[2].revents != 0) read_events();
      if (polls[0].revents != 0 && !exchange.read(body)) return 0;
    }
    return exchange.head().status;
  }

  void open_events() {
    if (events_ || events_ended_) return;
    parser_ = {};
    auto exchange = node_.open("GET", "/v1/runs/" + target_ + "/events");
    if (exchange) events_ = std::move(*exchange);
    events_ended_ = !events_;
  }

  void read_events() {
    std::string bytes;
    const auto complete = events_->read(bytes);
    auto events = complete ? parser_.add(bytes) : Result<std::vector<engines::Event>>();
    if (events)
      for (const auto& event : *events) take_event(event);
    if (!complete || !events || *complete) {
      events_.reset();
      events_ended_ = true;
    }
  }

  void take_event(const engines::Event& event) {
    const std::string& state = event.data["state"].as_string();
    started_ = started_ || (event.kind == "step" && state == "running");
    committed_ = committed_ || (event.kind == "run" && run_has_settled(state)) ||
                 (event.kind == "step" && started_ && (job_has_ended(state) || state == "preempted"));
    if (has_ended_) return;
    const std::string why = printable(event.data["why"].as_string());
    if (event.kind == "note") notes_ += event.data["text"].as_string() + "\n";
    if (event.kind == "env" || event.kind == "note" || event.kind == "lock") report_.tell(event);
    if (event.kind == "step" && !why.empty() && !job_has_ended(state) &&
        std::exchange(why_, why) != why)
      console_.warn(why);
  }

  // The shim tells us of the end and the node at once. Whoever looks next (loam ps) shall find it recorded. A node that
  // is gone records it when it comes back; the status is known here already.
  void await_commit() {
    has_ended_ = true;
    events_ended_ = false;
    open_events();
    const std::int64_t limit_ns = steady_ns() + kCommitLimitNs;
    while (events_ && !committed_) {
      const std::int64_t left_ns = limit_ns - steady_ns();
      pollfd polls[2] = {{events_->fd(), POLLIN, 0}, {signals_.fd(), POLLIN, 0}};
      const int count = left_ns > 0 ? ::poll(polls, 2, static_cast<int>(left_ns / kNsPerMs) + 1) : 0;
      if (count == 0) break;
      for (int number = signals_.next(); number != 0; number = signals_.next())
        if (number != SIGWINCH) return;
      if (polls[0].revents != 0) read_events();
    }
    if (!committed_)
      console_.warn("the command has ended, but the node has not recorded it yet; `loam ps " + target_ + "` shows it once one has");
  }

  void take_signals() {
    for (int number = signals_.next(); number != 0; number = signals_.next()) {
      if (number == SIGWINCH) continue;
      if (number == SIGHUP || interrupted_) {
        left_ = number == SIGHUP ? kExitSignal + SIGHUP : kExitInterrupted;
      } else {
        interrupt();
      }
    }
  }

  void interrupt() {
    interrupted_ = true;
    const auto answer = node_.call("POST", "/v1/cancel", Json::object({{"target", target_}}));
    // Not found and busy: it has ended by itself meanwhile.
    if (!answer && answer.error().code == ErrorCode::unavailable)
      console_.warn("cancelling failed: " + answer.error().text);
  }

  // The run document, waiting a while for a node that is gone.
  Result<Json> read_run() {
    const std::int64_t limit_ns = steady_ns() + kReachLimitNs;
    for (bool told = false;;) {
      auto run = node_.call("GET", "/v1/runs/" + target_);
      if (run || run.error().code == ErrorCode::not_found || steady_ns() > limit_ns || left_)
        return run;
      if (!std::exchange(told, true)) console_.warn("lost the node; waiting for it");
      ::poll(nullptr, 0, kReachRetryMs);
      take_signals();
    }
  }

  // No frames (any more): the log's bytes from `skip` on, then the run's last state.
  int without_attachment(std::uint64_t skip) {
    const auto first = read_run();
    if (!first) {
      console_.warn(first.error().text);
      return first.error().code == ErrorCode::unavailable ? kExitUnavailable : kExitFailure;
    }
    const engines::Wake wake{signals_.fd(), [&] {
                               take_signals();
                               return !left_;
                             }};
    (void)node_.stream(
        "GET", "/v1/logs/" + target_ + "?follow=1&stream=all&from=" + std::to_string(skip), {},
        [&](std::string_view bytes) {
          console_.raw(bytes);
          return !console_.broken();
        },
        &wake);
    return left_ ? *left_ : last_status();
  }

  // The run's end, from its events if it has not ended yet.
  int last_status() {
    for (;;) {
      const auto run = read_run();
      if (left_) return *left_;
      if (!run) {
        console_.warn(run.error().text);
        return run.error().code == ErrorCode::unavailable ? kExitUnavailable : kExitFailure;
      }
      if (run_has_settled((*run)["state"].as_string())) return status_of_run(*run);
      ::poll(nullptr, 0, kReachRetryMs);
      take_signals();
    }
  }

  int status_of_run(const Json& run) {
    const auto& jobs = run["jobs"].as_array();
    if (!jobs.empty() && !jobs[0]["attempts"].as_array().empty())
      return tell_exit(jobs[0]["attempts"].as_array().back()["exit"]);
    std::string error = printable(run["error"].as_string());
    if (error.empty() && !jobs.empty()) error = printable(jobs[0]["error"].as_string());
    if (interrupted_) return kExitInterrupted;
    console_.warn(error.empty() ? "run " + target_ + " " + printable(run["state"].as_string())
                                : error);
    return kExitFailure;
  }

  // One line, for what no note has told yet.
  void tell_missing(const Json& missing) {
    std::vector<std::string> parts;
    for (const Json& item : missing.as_array()) {
      const std::string guard = printable(item["guard"].as_string());
      if (notes_.find("'" + guard + "'") == std::string::npos)
        parts.push_back(guard + " (" + printable(item["reason"].as_string()) + ")");
    }
    if (!parts.empty())
      console_.warn("not guarded on this host: " + join(parts, ", ") + "; see loam doctor");
  }

  // Says what the status alone does not say.
  int tell_exit(const Json& record) {
    tell_missing(record["missing"]);
    if (interrupted_) return kExitInterrupted;
    const std::string& outcome = record["outcome"].as_string();
    const bool of_its_own = outcome == "exited" || outcome == "signaled";
    if (!of_its_own || record.has("rank")) console_.warn(describe_exit(record));
    return status_of_exit(record);
  }

  Console& console_;
  const engines::LocalNode& node_;
  Signals& signals_;
  const CommandRun command_;
  const std::string target_;
  Report report_;
  std::optional<engines::Exchange> events_;
  engines::SseParser parser_;
  bool events_ended_ = false;
  bool started_ = false, committed_ = false;  // as the events tell
  bool has_ended_ = false;                    // as the shim tells
  bool interrupted_ = false;
  std::string why_;
  std::string notes_;
  std::optional<int> left_;
};

}  // namespace

int watch_command(Console& console, const engines::LocalNode& node, Signals& signals,
                  const CommandRun& command) {
  return Watch(console, node, signals, command).run();
}

}  // namespace loam::cli
