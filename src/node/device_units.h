// The devices of this machine as single units that can be handed out, and what an attempt needs of
// the ones that it was granted. Pure, but for the look at device nodes that a lock is named after.
//
//   node.yaml, pools of huge pages, GPUs (gpu_units.h) ──▶ DeviceUnit ──▶ sched::Device
//   sched::RankPlacement ──▶ DeviceGrant ── give_devices (worker, device_look.h) ──▶ AttemptPlan
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "api/attempt.h"
#include "base/result.h"
#include "devices/huge_pages.h"
#include "sandbox/device_lock.h"
#include "sched/claim.h"
#include "sched/machine.h"
#include "spec/node_config.h"

namespace loam::node {

// Not a name that a configuration can declare.
inline constexpr const char* kHugePageKind = "huge page block";

struct DeviceUnit {
  std::string id;    // "camera-0"
  std::string kind;  // "camera"
  std::string model;
  std::uint64_t memory_bytes = 0;
  std::int32_t numa = -1;
  std::string uuid;                   // of a GPU or MIG slice: what its driver calls it
  std::string parent;                 // of a slice: its GPU's id
  std::uint32_t time_slices = 1;      // how many jobs may have it at a time, where they ask to share
  std::vector<std::string> nodes;     // its own, exclusive between all nodes of the machine
  std::vector<std::string> common;    // come with any unit of the kind
  std::vector<std::string> optional;  // likewise, where they are there
  std::string unusable;               // why nobody can have it, whatever state it is in
  bool locked = true;               // a block of huge pages is not: the kernel counts them
};
std::vector<DeviceUnit> declared_units(const std::vector<spec::DeclaredDevice>& devices);

// A pool in at most kHugePageBlocksMax equal blocks, so that the scheduler counts few things.
inline constexpr std::uint64_t kHugePageBlocksMax = 256;
struct HugePagePool {
  std::uint64_t page_bytes = 0;
  std::uint64_t block_bytes = 0;  // 0: no pages are set aside
  std::uint64_t blocks = 0;
};
HugePagePool huge_page_pool(const std::vector<devices::HugePages>& pools,
                            std::uint64_t default_page_bytes);
std::vector<DeviceUnit> huge_page_units(const HugePagePool& pool);

// What a job was granted.
struct GrantedUnit {
  DeviceUnit unit;
  std::uint32_t parts = 1, of = 1;
  bool shared() const { return parts < of; }
};
// The least of it that a job can have.
inline GrantedUnit a_piece_of(const DeviceUnit& unit) { return {unit, 1, unit.time_slices}; }
struct DeviceGrant {
  std::vector<GrantedUnit> units;
  std::vector<std::uint32_t> cpus;  // pinned
  std::vector<std::uint32_t> memory_nodes;
  std::uint64_t huge_page_bytes = 0, huge_bytes = 0;
  std::vector<DeviceGrant> ranks;  // of a gang: units and cpus of each; those above are of all
};

// Why a unit cannot be used now.
struct DeviceTrouble {
  std::string device;
  std::string reason;   // "held by …", "/dev/video0: No such file or directory"
  pid_t pid = 0;        // whose end may mend it, 0: unknown
  bool broken = false;  // a person must mend it: it is drained
};
// The lock of a unit; its nodes are looked at.
Result<sandbox::DeviceLock> lock_of(const DeviceUnit& unit);
// And those of its time slices: who has one shares the unit's lock and holds its slice alone, so that
// two nodes together hand out no more of them than there are.
Result<std::vector<sandbox::DeviceLock>> locks_of(const GrantedUnit& granted);

// The host's driver's files that a job with a GPU needs.
struct DriverFiles {
  struct Library {
    std::string path, name;
  };
  struct Other {
    std::string from, to;
  };
  std::vector<Library> libraries;
  std::vector<Other> others;  // for environments of their own: on the host they are there
};

void set_variable(std::vector<std::pair<std::string, std::string>>& variables,
                  const std::string& name, const std::string& value);

// In an attempt's row: {"cpus", "numa", "devices": [{"id", "parts", "of"}]}, of all ranks; of a gang of
// several also "ranks", each such a document.
Json to_json(const sched::Placement& placement);
sched::Placement placement_from(const Json& document);
sched::RankPlacement all_ranks(const sched::Placement& placement);

}  // namespace loam::node
