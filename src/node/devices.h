// The devices that this node hands out: which there are, what state each is in, who may not have it.
// The scheduler decides who gets one; this tells it which are usable.
//
//   configuration, pools of huge pages, GPUs ─▶ units ──▶ sched::Device     (for_scheduler)
//   a plan or a shim finds one in use   ─▶ busy until its holder ends ─▶ usable
//   a person, what could not be killed, an Xid error ─▶ drained (kept in the database) ─▶ resume
//
// A busy device is watched by the pidfd of the process that has it. Where nobody's is known it is
// looked at again when somebody asks, and every kLookAgainMs while a claim waits: at rest nothing
// wakes.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/json.h"
#include "node/database.h"
#include "node/device_look.h"
#include "node/loop.h"

namespace loam::node {

class Devices {
 public:
  struct Events {
    std::function<void(const std::string& device, sched::DeviceState, const std::string& reason)>
        changed;
    std::function<bool()> anybody_waits;
  };
  Devices(Loop& loop, Database& database, Events events);

  // What the configuration declares from now on. A unit that stays keeps its state.
  void configure(const spec::NodeConfig& config);
  // What the driver says there is; takes effect with the next configure().
  void found_gpus(Result<devices::GpuInventory> inventory, std::shared_ptr<GpuQuestions> questions);
  const std::string& gpu_error() const { return gpu_error_; }  // why the driver says nothing
  const devices::GpuInventory& gpus() const { return gpus_; }
  std::vector<sched::Link> links() const;
  // An Xid error (gpu_helper_main.h).
  void befell_gpu(const Json& event);
  std::vector<sched::Device> for_scheduler() const;
  // Of a placement's devices those that are still here.
  std::vector<GrantedUnit> granted(const std::vector<sched::DevicePart>& parts) const;
  // For the host's record: what there is, whatever state it is in.
  Json facts() const;
  const HugePagePool& huge_pages() const { return huge_pages_; }
  std::vector<std::string> kinds() const;  // declared ones, for spellings
  const std::string& lock_folder() const { return probe_.lock_folder; }
  const DeviceProbe& probe() const { return probe_; }

  void found_busy(const DeviceTrouble& trouble);
  // What a look at it found; none: nothing is in the way.
  void looked(const std::string& device, const std::optional<DeviceTrouble>& trouble);
  void look_again();  // at those that are busy, and whose holder is not watched
  // After a claim has come to wait: from now on they are looked at every few seconds.
  void watch_for_waiting() { arm_timer(); }
  // False: there is no such device.
  bool drain(const std::string& device, const std::string& reason, const std::string& by);
  bool resume(const std::string& device);

  struct View {
    const DeviceUnit* unit = nullptr;
    sched::DeviceState state = sched::DeviceState::usable;
    std::string reason;
    std::string drained_by;
    std::int64_t drained_ms = 0;
    bool sliced = false;  // its slices are handed out, not it
  };
  std::vector<View> views() const;
  bool known(const std::string& device) const { return units_.contains(device); }

 private:
  struct Drain {
    std::string reason, by;
    std::int64_t since_ms = 0;
  };
  struct Busy {
    std::string reason;
    bool looked_at = false;  // a worker is at it
    Fd holder;
    Loop::Watch watch;  // last: ends before the descriptor closes
  };

  void use_cdi(const std::vector<std::string>& folders, std::vector<DeviceUnit>& units);
  void look_at(const std::string& device);
  void watch_holder(const std::string& device, pid_t pid);
  void arm_timer();
  std::pair<sched::DeviceState, std::string> state_of(const std::string& device) const;
  void tell(const std::string& device);

  Loop& loop_;
  Database& db_;
  Events events_;
  DeviceProbe probe_;
  devices::GpuInventory gpus_;
  std::string gpu_error_;
  std::vector<std::string> order_;  // as configured
  std::map<std::string, DeviceUnit> units_;
  std::map<std::string, Drain> drains_;  // of devices that are away too
  std::map<std::string, Busy> busy_;
  HugePagePool huge_pages_;
  Loop::Timer timer_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace loam::node
