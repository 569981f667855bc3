// Follows a run until it has settled: its events as lines, its steps' output live.
//
//   events (SSE) ──▶ queue ──▶ Report (lines) ──▶ console
//   logs of running steps ──▶ console, whole before the step's result is told
//   signals: first interrupt cancels the run, the second leaves; a hang-up leaves the run to itself
//
// A lost node is waited for; what was told before is not told again.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "cli/console.h"
#include "cli/report.h"
#include "cli/signals.h"
#include "engines/local_node.h"
#include "engines/sse.h"

namespace loam::cli {

inline constexpr int kRetryMs = 200;                          // between tries to reach a lost node
inline constexpr std::int64_t kLostLimitNs = 30'000'000'000;  // then we leave; the run goes on

// How many bytes of the attempt's output came before this answer's first.
std::uint64_t log_offset(const engines::Exchange& exchange);

class Follower {
 public:
  struct Options {
    bool prefix_output = false;  // "STEP| " before each line: several steps may run at once
    bool quiet = false;          // no lines, no output (--json)
    bool interrupted = false;    // an interrupt came during submission
    std::string on = {};         // " --on BOX", for verbs that are offered
  };
  Follower(Console& console, engines::LocalNode node, Signals& signals, std::int64_t run,
           Options options);
  // The exit status.
  int follow();

 private:
  // The output of one attempt as it arrives.
  struct Log {
    std::string step;
    engines::Exchange exchange;
    std::string line;  // begun, where lines are prefixed
    std::int64_t heard_ns = 0;
    std::uint64_t offset = 0;          // of all output, where this connection was to begin
    std::uint64_t received_bytes = 0;  // on it
    bool complete = false;
    bool broken = false;  // complete for now: to be opened again with the events
  };

  bool turn();  // one round of waiting; false: settled or left
  Result<void> connect_events();
  void lose_connection(const Error& error);
  void read_events();
  void take_events();
  bool must_wait_for_log(const engines::Event& event);
  void take(const engines::Event& event);
  void open_log(const Json& step_event);
  void reopen_logs();
  void read_log(Log& log);
  void print_output(Log& log, const std::string& bytes);
  void finish_line(Log& log);
  void on_signals();
  void cancel();
  int settled_status() const;

  Console& console_;
  engines::LocalNode node_;
  Signals& signals_;
  std::int64_t run_;
  Options options_;
  Report report_;
  std::optional<engines::Exchange> events_;
  engines::SseParser parser_;
  std::string refused_;  // the body of an answer that is no stream of events
  std::deque<engines::Event> queue_;
  std::set<std::string> told_;         // events before the connection was lost
  std::vector<std::string> told_now_;  // on this connection
  std::map<std::string, Log> logs_;    // by attempt: "17/train/2"
  std::string state_;                  // the run's last one
  std::int64_t lost_since_ns_ = 0;
  bool cancelled_ = false;   // by us
  std::optional<int> left_;  // the exit status of leaving before the end
};

// "17/train/2" of a step event.
std::string attempt_of(const Json& step_event);
bool run_has_settled(const std::string& state);
bool job_has_ended(const std::string& state);

}  // namespace loam::cli
