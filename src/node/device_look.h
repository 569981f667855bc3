// Looks at units on a worker: are their nodes there, does another node hold their lock, does a process
// that is none of Loam's use a GPU. One object for one look at several: the driver is asked once.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "node/device_units.h"
#include "node/gpu_helper.h"

namespace loam::node {

// What a look needs of the node; copied to the worker.
struct DeviceProbe {
  std::string lock_folder;
  std::shared_ptr<GpuQuestions> gpus;      // null: this machine has none
  std::vector<std::string> ignored_users;  // programs whose use of a GPU does not matter
  DriverFiles driver;
};

class DeviceLook {
 public:
  explicit DeviceLook(DeviceProbe probe) : probe_(std::move(probe)) {}

  // Whether so much of the unit can be had.
  std::optional<DeviceTrouble> trouble_of(const GrantedUnit& granted);
  // devices::GpuStates; unavailable where the driver does not answer.
  const Result<Json>& gpu_states();
  const DeviceProbe& probe() const { return probe_; }

 private:
  DeviceProbe probe_;
  std::optional<Result<Json>> states_;
};

// Adds nodes, locks, CPUs, the environment and a GPU's libraries to the plan, or says what is in the way.
std::optional<DeviceTrouble> give_devices(const DeviceGrant& grant, const DeviceProbe& probe,
                                          api::AttemptPlan& plan);

}  // namespace loam::node
