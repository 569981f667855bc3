#include "node/shared_cpus.h"

#include <algorithm>

#include "base/log.h"
#include "sandbox/cpuset.h"

namespace loam::node {

SharedCpus::SharedCpus(const sandbox::CgroupParents& parents)
    : parents_(parents),
      by_group_(std::any_of(parents.v1_on_demand.begin(), parents.v1_on_demand.end(),
                            [](const auto& entry) { return entry.first == "cpuset"; })) {}

void SharedCpus::follow(const sched::State& state) {
  std::vector<std::uint32_t> cpus;
  if (std::find(state.pinned.begin(), state.pinned.end(), true) != state.pinned.end())
    cpus = sched::shared_cpus(state);
  // All are pinned: only this node itself is left, and it must run somewhere.
  if (cpus == cpus_) return;
  std::vector<std::string> names;
  for (const AttemptId attempt : pinned_) names.push_back(std::to_string(attempt));
  if (auto set = sandbox::set_shared_cpus(parents_, cpus, names); !set) {
    log_warning("pinned CPUs are not kept free of other jobs: " + set.error().text);
    return;
  }
  cpus_ = std::move(cpus);
}

void SharedCpus::pinned(AttemptId attempt) { pinned_.insert(attempt); }
void SharedCpus::ended(AttemptId attempt) { pinned_.erase(attempt); }

std::vector<std::uint32_t> SharedCpus::of_new_attempt() const {
  return by_group_ ? std::vector<std::uint32_t>{} : cpus_;
}

}  // namespace loam::node
