// The lock of a device between all nodes of a machine: one file each in a folder that every user
// can reach, held by flock(2) for as long as the device is in use, so that a user's own node and
// the system's never both hand out one.
//
//   FOLDER/char-195-0   flock ── held by the shim of the attempt that has the device
//                       content: who that is (for people), and the cgroup that must be empty
//                       before the next holder begins
//
// The kernel lets go of the lock when its holder's process ends, which can be before the job's last
// process has: the next holder waits for the cgroup that the file names.
//
// Trust: any user can hold a lock and write a file. That can keep a device from being handed out,
// never get it handed out twice; content is only read, as text and as a path below /sys/fs/cgroup.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "sandbox/pid_namespace.h"

namespace loam::sandbox {

inline constexpr const char* kDeviceLockFolder = "/run/lock/loam";

struct DeviceLock {
  std::string device;              // for people: "camera-0"
  std::vector<std::string> names;  // files of the folder
  std::uint32_t count = 1;         // how many of them; parts of a shared device are alike
  bool shared = false;             // held together with others that say so too
  bool operator==(const DeviceLock&) const = default;
};

struct LockOwner {
  std::string words;  // "attempt 7 of alice's node (/home/alice/.local/state/loam)"
  // What the next holder waits for: the job's v2 cgroup; where there is none, its pid namespace.
  std::string cgroup;
  PidNamespace pid_namespace;
};

// Sticky and open to all, as /tmp. A root node takes over one that a user made before it.
Result<void> make_lock_folder(const std::string& folder);

// busy: "camera-0 is held by attempt 7 of alice's node (…), process 4711". Waits `limit_ms` for a
// holder that is about to go.
Result<std::vector<Fd>> take_device_lock(const std::string& folder, const DeviceLock& lock,
                                         const LockOwner& owner, std::int64_t limit_ms);

// Says anew whose the locks are, once the namespace is known.
Result<void> sign_device_locks(const std::vector<Fd>& locks, const LockOwner& owner);

struct LockHolder {
  std::string words;  // "attempt 7 of alice's node (…), process 4711"
  pid_t pid = 0;      // whose end may free it; 0: not seen from here
};
// None where it could be had now (it is, for a moment). Others that only look have it for a moment
// too: who has it for less than `patience_ms` is no holder.
inline constexpr std::int64_t kLookPatienceMs = 200;
std::optional<LockHolder> lock_holder(const std::string& folder, const DeviceLock& lock,
                                      std::int64_t patience_ms = kLookPatienceMs);

}  // namespace loam::sandbox
