// What a lane's keeper holds: the tasks that it was handed, the one that runs, the exits that
// nobody has heard of yet.
//
//   handed ─▶ begin: journal, pid 1 ─▶ end: output moved, journal ─▶ … ─▶ sync ─▶ told to the node
//
// Several exits share one sync, and none is told before it. One task runs at a time.
#pragma once

#include <poll.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/attempt.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/result.h"
#include "sandbox/lane.h"
#include "shim/exit_journal.h"
#include "shim/output.h"

namespace loam::shim {

struct Task {
  std::string attempt;
  sandbox::Variables environment;
  std::string work;  // where what it left goes: output/ and run/ below it
};

class Lane {
 public:
  static Result<Lane> open(const api::AttemptPlan& plan);

  // Of a "tasks" packet; what is no task is left out. An error: no room for their exits, and none
  // is taken.
  Result<void> hand(const Json& tasks);
  void drop_waiting() { waiting_.clear(); }
  bool has_waiting() const { return !waiting_.empty(); }

  // The first that waits, asked of pid 1.
  Result<void> begin(int control);
  bool runs() const { return current_.has_value(); }
  const std::string& running() const { return current_->task.attempt; }
  std::int64_t started_ms() const { return current_->started_ms; }

  pollfd poll_entry() const { return {current_ ? current_->output.get() : -1, POLLIN, 0}; }
  void read_output();

  // Of the one that runs: its last words, what it left, its record. An error: the lane can go on no
  // further, for the next task would find what this one left.
  Result<void> end(const api::ExitRecord& record);

  bool owes_exits() const { return !exits_.empty(); }
  bool owes_words() const { return !begun_.empty() || !exits_.empty(); }
  // Durable from here on; the "tasks" packets that say so.
  Result<std::vector<Json>> settle();
  Json holds() const;

 private:
  struct Current {
    Task task;
    Fd output;
    std::optional<OutputLog> log;  // from its first word on
    std::int64_t started_ms = 0;
  };
  Lane(const api::AttemptPlan& plan, ExitJournal journal);
  bool read_once();
  void keep(std::string_view bytes);
  Result<void> take_what_it_left();

  std::string attempts_folder_;
  api::LanePlan folders_;
  sandbox::Ids ids_;
  std::uint64_t output_bytes_max_ = 0;
  ExitJournal journal_;
  std::deque<Task> waiting_;
  std::optional<Current> current_;
  std::vector<std::string> begun_;  // and not told
  std::vector<Json> exits_;         // likewise
};

}  // namespace loam::shim
