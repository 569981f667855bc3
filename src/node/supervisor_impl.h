// The inside of Supervisor, shared by its files: one per step of an attempt's life.
//   supervisor_start.cc   from the commit to the shim        shim_channel.cc  the shim's socket
//   supervisor_recover.cc after a restart of the node        attempt_fence.cc what runs on a
//   worker: lock, fence supervisor.cc         exits, and what others may ask
//   supervisor_lanes.cc   attempts that are handed tasks
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/fork_server.h"
#include "node/attempt_fence.h"
#include "node/shim_channel.h"
#include "node/supervisor.h"

namespace loam::node {

// An attempt between its commit and the end of its shim. shared_ptr: workers' ends come back to it.
struct OpenAttempt {
  AttemptId id = 0;
  JobId job = 0;
  std::string folder;
  sandbox::CgroupPaths cgroup;
  std::int64_t started_ms = 0;  // 0: not running yet
  bool ended = false;           // its exit is written (perhaps not yet committed)

  // Until the shim is started.
  std::unique_ptr<api::AttemptPlan> plan;
  sandbox::CgroupLimits limits;
  std::function<Result<void>(const std::string&)> prepare_folder;

  Fd lock;  // ours before the shim has it, and through a fence
  std::unique_ptr<ShimChannel> channel;
  pid_t pid = -1;  // our own child, to be reaped; not of a shim found again
  Fd pidfd;
  Loop::Watch pid_watch;
  std::optional<api::Outcome> stop_reason;
  std::string stop_error;
  bool kill_asked = false;
  std::vector<std::pair<Json, Fd>> streams_waiting;  // packets with a client's stream
  bool is_lane = false;
  int give_backs = 0;                // asked for, not answered
  std::vector<Json> to_hand;         // tasks, until their rows are committed
  std::function<void()> on_decided;  // while a restart waits to hear whether it runs or has ended
};
using OpenAttemptPtr = std::shared_ptr<OpenAttempt>;

inline constexpr std::size_t kStreamsWaitingMax = 8;

struct Supervisor::Impl {
  Loop& loop;
  Database& db;
  NodeContext context;
  Events events;
  ForkServer shims;
  std::string boot;
  std::map<AttemptId, OpenAttemptPtr> open;
  Loop::Timer recovery_patience;
  // Dies with the supervisor: what comes back from a worker later finds it gone.
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);

  std::string folder_of(AttemptId id) const {
    return context.paths.attempts + "/" + std::to_string(id);
  }
  // A task for the loop that does nothing once the supervisor is gone.
  std::function<void()> guarded(std::function<void()> task) const {
    return [weak = std::weak_ptr(alive), task = std::move(task)] {
      if (weak.lock()) task();
    };
  }

  // supervisor_start.cc
  void begin(const OpenAttemptPtr& attempt);
  void launch(const OpenAttemptPtr& attempt);
  Result<void> make_folder(OpenAttempt& attempt);
  Result<void> spawn_shim(const OpenAttemptPtr& attempt);
  void fail_start(const OpenAttemptPtr& attempt, const Error& error);

  // supervisor.cc
  void connected(const OpenAttemptPtr& attempt, Fd socket);
  void packet(const OpenAttemptPtr& attempt, const Json& message);
  void shim_gone(const OpenAttemptPtr& attempt);
  void reap(const OpenAttemptPtr& attempt);
  void exit_seen(const OpenAttemptPtr& attempt, std::optional<api::ExitRecord> told);
  void finish(const OpenAttemptPtr& attempt, const api::ExitRecord& record, bool reboot);
  void clean_up(const OpenAttemptPtr& attempt);
  void resolve_dead(const OpenAttemptPtr& attempt, std::function<void()> done);
  api::ExitRecord record_of(const OpenAttempt& attempt, api::Outcome outcome,
                            std::string error) const;

  // supervisor_lanes.cc
  OpenAttempt* open_lane(AttemptId id);
  bool tell_lane(OpenAttempt& lane, const Json& packet);
  void ask_back(OpenAttempt& lane);
  void send_tasks(const OpenAttemptPtr& lane);
  void lane_packet(const OpenAttemptPtr& lane, const std::string& type, const Json& message);
  void begun(AttemptId id);
  void finish_task(AttemptId lane, const api::ExitRecord& record, bool reboot);
  void settle_lane(const OpenAttemptPtr& lane, const std::set<std::string>& held);
  void settle_ended_lane(const OpenAttemptPtr& lane, api::Outcome how, bool reboot);
  void return_task(AttemptId id);
  void stop_task(AttemptId id, api::Outcome reason);

  // supervisor_recover.cc
  void recover(std::function<void()> done);
  static void decided(OpenAttempt& attempt);
  void connect_again(const OpenAttemptPtr& attempt);
  void remove_leftovers();
};

}  // namespace loam::node
