// One attempt's keeper: start, watch, stop, record (recovery.md). A single thread around poll(2).
//
//   plan.json ─▶ sandbox ─▶ go ─▶ running ─▶ (stop, time limit, out of memory) ─▶ group empty ─▶
//   exit.json ─▶ word of the node, or its absence ─▶ end
//
// Trust: the plan and the nodes are Loam's. Bytes of the job and of attached clients are foreign.
#pragma once

#include <poll.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "api/attempt.h"
#include "sandbox/init.h"
#include "sandbox/sandbox.h"
#include "shim/clients.h"
#include "shim/held_devices.h"
#include "shim/job_streams.h"
#include "shim/lane.h"
#include "shim/memory_watch.h"
#include "shim/node_link.h"
#include "shim/output.h"
#include "shim/rank_streams.h"
#include "shim/rendezvous.h"
#include "shim/sessions.h"

namespace loam::shim {

class Keeper {
 public:
  // `shared` is borrowed until the end.
  Keeper(api::AttemptPlan plan, NodeLink link, OutputLog log, const sandbox::Shared& shared);
  // To the end of the attempt and of what the nodes and clients must still hear.
  Result<void> run();

 private:
  enum class State { building, waiting_for_client, starting, running, ended };
  enum class Timer { client, time_limit, idle, grace, out_of_memory, unkillable, farewell, settle, count };

  void start();
  void go();
  void turn();
  void handle_events(const std::vector<pollfd>& polls);
  void on_timer(Timer timer);
  void on_report();
  bool on_control();
  void on_packet(const Json& packet, Fd descriptor);
  void on_frame(const api::Frame& frame);
  void on_output(api::AttachFrame type, std::string_view bytes);
  void on_hang_up();
  void start_sessions();
  void on_rank_end(const sandbox::InitPacket& packet);
  void end_other_ranks();
  void on_init_end();

  // keeper_lane.cc
  Result<void> open_lane();
  void on_lane_packet(const std::string& type, const Json& packet);
  void next_task();
  void stop_task(api::Outcome why);
  void on_lane_grace();
  void on_task_end(const sandbox::InitPacket& packet);
  void end_task(api::ExitRecord record);
  void end_with_lane(bool unkillable);
  api::ExitRecord task_record(int status, std::int64_t largest_bytes, std::int64_t cpu_ns);
  void settle_exits();
  void settle_exits_now();
  [[noreturn]] void give_up_lane(const Error& error);

  void check_memory();
  void check_idle();

  void stop(api::Outcome why, const std::string& error = {});
  void terminate(std::int64_t grace_ms);
  void kill_all();
  void send_control(sandbox::Control kind, int number = 0);
  void signal_group(int number);
  void fail_to_start(std::string why);
  void finish(api::ExitRecord record);
  api::ExitRecord ended_record();
  static void set_status(api::ExitRecord& record, int status);
  void set_out_of_memory(api::ExitRecord& record, const sandbox::MemoryReport& memory,
                         std::int64_t largest_bytes);
  bool may_leave() const;

  void arm(Timer timer, std::int64_t delay_ms);
  void disarm(Timer timer);
  int poll_timeout_ms() const;
  bool live_clients() const { return plan_.terminal || plan_.standard_input; }

  static constexpr const char* kEndedWords = "the job has ended, and with it what had joined it";
  api::AttemptPlan plan_;
  const sandbox::Shared shared_;
  NodeLink link_;
  OutputLog log_;
  Clients clients_;
  Sessions sessions_;
  JobStreams streams_;
  RankStreams rank_streams_;  // a gang's
  Fd rendezvous_;             // keeps a gang's port from others
  MemoryWatch memory_;
  sandbox::CgroupPaths cgroup_;
  HeldDevices devices_;
  sandbox::Sandbox sandbox_;
  State state_ = State::building;
  std::int64_t deadlines_ns_[static_cast<std::size_t>(Timer::count)] = {};  // 0: not armed
  std::string report_;
  std::vector<api::MissingGuard> missing_;
  std::optional<api::Outcome> stopped_;  // why it was told to end
  std::string stop_error_;               // in the node's words
  bool checkpoint_asked_ = false;        // the checkpoint's signal is out; init says who got it
  std::optional<std::string> start_failure_;
  std::optional<int> status_;  // of the user's process, as waitpid's
  struct RankEnd {
    int rank = 0;
    int status = 0;  // as waitpid's
  };
  std::optional<RankEnd> failed_rank_;  // the first of a gang
  std::optional<Lane> lane_;
  std::optional<api::Outcome> task_stopped_;  // why the lane's task was told to end
  bool task_kill_asked_ = false;              // of pid 1
  bool closing_ = false;                      // the lane ends when it has nothing left to do
  std::int64_t settled_ns_ = 0;               // when exits were last told
  std::uint64_t oom_kills_seen_ = 0;          // of tasks that have ended
  std::int64_t largest_bytes_ = 0;
  std::int64_t started_ms_ = 0;
  std::int64_t active_ns_ = 0;  // when something was last typed or said
  bool idle_told_ = false;
  bool go_due_ = false;  // as soon as the terminal has come
  bool killed_ = false;
  int memory_checks_left_ = 0;
  bool committed_ = false;
  Result<void> written_;
};

}  // namespace loam::shim
