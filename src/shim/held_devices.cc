#include "shim/held_devices.h"

#include <iterator>

#include "sandbox/device_lock.h"

namespace loam::shim {
namespace {

// For a holder that is about to go: its shim was killed, its job's processes are still ending.
constexpr std::int64_t kDyingHolderMs = 2'000;

sandbox::LockOwner owner_of(const api::AttemptPlan& plan) {
  return {.words = "attempt " + plan.attempt + " of " + plan.device_lock_owner,
          .cgroup = plan.cgroup.v2};
}

}  // namespace

Result<void> HeldDevices::take(const api::AttemptPlan& plan) {
  if (plan.device_locks.empty()) return {};
  LOAM_CHECK(sandbox::make_lock_folder(plan.device_lock_folder));
  for (const api::DeviceLockPlan& lock : plan.device_locks) {
    auto taken = sandbox::take_device_lock(plan.device_lock_folder,
                                           {.device = lock.device,
                                            .names = lock.names,
                                            .count = lock.count,
                                            .shared = lock.shared},
                                           owner_of(plan), kDyingHolderMs);
    if (!taken) {
      if (taken.error().code == ErrorCode::busy) busy_device_ = lock.device;
      release();
      return tl::unexpected(taken.error());
    }
    std::vector<Fd>& held = lock.shared ? shared_ : exclusive_;
    std::move(taken->begin(), taken->end(), std::back_inserter(held));
  }
  return {};
}

Result<void> HeldDevices::name_namespace(const api::AttemptPlan& plan,
                                         const sandbox::PidNamespace& pids) {
  sandbox::LockOwner owner = owner_of(plan);
  owner.pid_namespace = pids;
  return sandbox::sign_device_locks(exclusive_, owner);
}

}  // namespace loam::shim
