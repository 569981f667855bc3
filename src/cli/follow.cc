#include "cli/follow.h"

#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "base/clock.h"
#include "base/text.h"
#include "cli/verb.h"

namespace loam::cli {
namespace {

constexpr std::int64_t kSilentLogLimitNs =
    3'000'000'000;  // an ended attempt's output that does not end
constexpr std::size_t kPartialLineBytesMax = 16u << 10;
constexpr std::size_t kEventsReadMax = 64;  // read()s in one round

std::string log_path(const std::string& attempt, std::uint64_t from = 0) {
  return "/v1/logs/" + engines::percent_encoded_path(attempt) + "?follow=1&stream=all" +
         (from > 0 ? "&from=" + std::to_string(from) : "");
}

}  // namespace

std::uint64_t log_offset(const engines::Exchange& exchange) {
  const auto field = exchange.head().own.find("loam-offset");
  return field == exchange.head().own.end() ? 0 : std::strtoull(field->second.c_str(), nullptr, 10);
}

bool run_has_settled(const std::string& state) {
  return state == "succeeded" || state == "failed" || state == "cancelled" || state == "serving";
}

bool job_has_ended(const std::string& state) {
  return state == "succeeded" || state == "failed" || state == "cancelled" || state == "skipped" ||
         state == "unchanged";
}

std::string attempt_of(const Json& event) {
  const std::string target = event["target"].as_string();
  const std::int64_t attempt = event["attempt"].as_int();
  const bool whole = std::count(target.begin(), target.end(), '/') >= 2;
  return attempt > 0 && !whole ? target + "/" + std::to_string(attempt) : target;
}

Follower::Follower(Console& console, engines::LocalNode node, Signals& signals, std::int64_t run,
                   Options options)
    : console_(console),
      node_(std::move(node)),
      signals_(signals),
      run_(run),
      options_(std::move(options)),
      report_(console, run, options_.quiet, false, options_.on) {}

int Follower::follow() {
  if (options_.interrupted) cancel();
  while (turn()) {
  }
  console_.clear_progress();
  return left_ ? *left_ : settled_status();
}

int Follower::settled_status() const {
  if (cancelled_) return kExitInterrupted;
  return state_ == "succeeded" || state_ == "serving" ? kExitOk : kExitFailure;
}

Result<void> Follower::connect_events() {
  parser_ = {};
  refused_.clear();
  events_ = LOAM_TRY(node_.open("GET", "/v1/runs/" + std::to_string(run_) + "/events"));
  reopen_logs();
  return {};
}

bool Follower::turn() {
  if (!events_) {
    if (auto connected = connect_events(); !connected) lose_connection(connected.error());
  }
  std::vector<pollfd> polls{{signals_.fd(), POLLIN, 0}, {events_ ? events_->fd() : -1, POLLIN, 0}};
  std::vector<Log*> logs;
  for (auto& [attempt, log] : logs_) {
    if (log.complete) continue;
    logs.push_back(&log);
    polls.push_back({log.exchange.fd(), POLLIN, 0});
  }
  const bool must_look_again = !events_ || !queue_.empty();
  if (::poll(polls.data(), polls.size(), must_look_again ? kRetryMs : -1) < 0 && errno != EINTR)
    left_ = kExitFailure;
  if (polls[0].revents != 0) on_signals();
  for (std::size_t i = 0; i < logs.size(); ++i)
    if (polls[i + 2].revents != 0) read_log(*logs[i]);
  if (polls[1].revents != 0) read_events();
  take_events();
  if (console_.broken() && !left_) left_ = kExitSignal + SIGPIPE;
  return !left_ && !run_has_settled(state_);
}

void Follower::lose_connection(const Error& error) {
  events_.reset();
  told_.insert(told_now_.begin(), told_now_.end());
  told_now_.clear();
  if (error.code == ErrorCode::not_found || error.code == ErrorCode::denied) {
    console_.warn(error.text);
    left_ = kExitFailure;
    return;
  }
  const std::int64_t now_ns = steady_ns();
  if (lost_since_ns_ == 0) {
    lost_since_ns_ = now_ns;
    console_.clear_progress();
    console_.warn("lost the node (" + error.text + "); the run goes on, waiting for the node");
  }
  if (now_ns - lost_since_ns_ < kLostLimitNs) return;
  console_.warn("the node did not come back; `loam ps" + options_.on + "` starts one and shows run " +
                std::to_string(run_));
  left_ = kExitUnavailable;
}

void Follower::read_events() {
  for (std::size_t i = 0; i < kEventsReadMax; ++i) {
    std::string bytes;
    auto complete = events_->read(bytes);
    if (!complete) return lose_connection(complete.error());
    if (events_->has_head() && events_->head().status != 200) {
      refused_ += bytes;
      if (!*complete && bytes.empty()) return;
      if (!*complete) continue;
      auto body = Json::parse(refused_);
      return lose_connection(
          engines::error_of({events_->head().status, body ? std::move(*body) : Json()}));
    }
    auto events = parser_.add(bytes);
    if (!events) return lose_connection(events.error());
    for (auto& event : *events) queue_.push_back(std::move(event));
    if (!events->empty()) lost_since_ns_ = 0;
    if (*complete) {
      const bool ended = std::any_of(queue_.begin(), queue_.end(), [](const engines::Event& event) {
        return event.kind == "run" && run_has_settled(event.data["state"].as_string());
      });
      if (!ended) return lose_connection({ErrorCode::corrupt, "its events ended before the run"});
      events_.reset();
      return take_events();
    }
    if (bytes.empty()) return;
  }
}

void Follower::take_events() {
  while (!queue_.empty() && !left_ && !run_has_settled(state_)) {
    if (must_wait_for_log(queue_.front())) return;
    const engines::Event event = std::move(queue_.front());
    queue_.pop_front();
    const std::string text = event.kind + " " + event.data.dump();
    told_now_.push_back(text);
    if (told_.contains(text)) {
      if (event.kind == "run") state_ = event.data["state"].as_string();
      continue;
    }
    take(event);
  }
}

// A step's result is told after its output. An output stream that does not end is given up.
bool Follower::must_wait_for_log(const engines::Event& event) {
  const bool ends = (event.kind == "step" && job_has_ended(event.data["state"].as_string())) ||
                    (event.kind == "run" && run_has_settled(event.data["state"].as_string()));
  if (!ends) return false;
  for (auto& [attempt, log] : logs_) {
    if (log.complete) continue;
    if (event.kind == "step" && log.step != event.data["step"].as_string()) continue;
    if (steady_ns() - log.heard_ns < kSilentLogLimitNs) return true;
    log.complete = true;
    finish_line(log);
  }
  return false;
}

void Follower::take(const engines::Event& event) {
  if (event.kind == "run") state_ = event.data["state"].as_string();
  if (event.kind == "step" && event.data["state"].as_string() == "running") {
    report_.tell(event);
    if (!options_.quiet) open_log(event.data);
    return;
  }
  report_.tell(event);
}

void Follower::open_log(const Json& event) {
  const std::string attempt = attempt_of(event);
  if (attempt.empty() || logs_.contains(attempt)) return;
  auto exchange = node_.open("GET", log_path(attempt));
  if (!exchange) return;  // the events' own connection tells of a lost node
  logs_.emplace(attempt, Log{.step = event["step"].as_string(),
                             .exchange = std::move(*exchange),
                             .line = "",
                             .heard_ns = steady_ns()});
}

void Follower::reopen_logs() {
  for (auto& [attempt, log] : logs_) {
    if (!log.broken) continue;
    if (log.exchange.has_head()) log.offset = log_offset(log.exchange) + log.received_bytes;
    auto exchange = node_.open("GET", log_path(attempt, log.offset));
    if (!exchange) continue;
    log.exchange = std::move(*exchange);
    log.received_bytes = 0;
    log.heard_ns = steady_ns();
    log.complete = log.broken = false;
  }
}

void Follower::read_log(Log& log) {
  std::string bytes;
  const auto complete = log.exchange.read(bytes);
  log.heard_ns = steady_ns();
  log.broken = !complete;
  log.complete = !complete || *complete;
  log.received_bytes += bytes.size();
  if (log.exchange.has_head() && log.exchange.head().status == 200) print_output(log, bytes);
  if (log.complete) finish_line(log);
}

void Follower::print_output(Log& log, const std::string& bytes) {
  if (!options_.prefix_output) {
    console_.raw(bytes);
    return;
  }
  log.line += bytes;
  const std::string prefix = console_.dim(printable(log.step) + "| ");
  for (auto end = log.line.find('\n'); end != std::string::npos; end = log.line.find('\n')) {
    console_.raw(prefix + log.line.substr(0, end + 1));
    log.line.erase(0, end + 1);
  }
  if (log.line.size() > kPartialLineBytesMax) finish_line(log);
}

void Follower::finish_line(Log& log) {
  if (log.line.empty()) return;
  console_.raw(console_.dim(printable(log.step) + "| ") + std::exchange(log.line, {}) + "\n");
}

void Follower::on_signals() {
  for (int number = signals_.next(); number != 0; number = signals_.next()) {
    if (number == SIGWINCH) continue;
    if (number == SIGHUP) {
      left_ = kExitSignal + SIGHUP;  // the run goes on
    } else if (cancelled_) {
      console_.warn("leaving; run " + std::to_string(run_) + " is being cancelled");
      left_ = kExitInterrupted;
    } else {
      cancel();
    }
  }
}

void Follower::cancel() {
  cancelled_ = true;
  console_.clear_progress();
  console_.warn("cancelling run " + std::to_string(run_) + " (once more leaves at once)");
  const engines::Wake wake{signals_.fd(), [&] {
                             const int number = signals_.next();
                             if (number == 0 || number == SIGWINCH) return true;
                             left_ = number == SIGHUP ? kExitSignal + SIGHUP : kExitInterrupted;
                             return false;
                           }};
  const auto answer =
      node_.call("POST", "/v1/cancel", Json::object({{"target", std::to_string(run_)}}), &wake);
  // Busy: it has ended by itself meanwhile.
  if (!answer && !left_ && answer.error().code != ErrorCode::busy) console_.warn("cancelling failed: " + answer.error().text);
}

}  // namespace loam::cli
