// Keeps whoever is not pinned off the CPUs of those who are, as claims come and go.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "node/supervisor.h"
#include "sandbox/cgroup.h"
#include "sched/sched.h"

namespace loam::node {

class SharedCpus {
 public:
  explicit SharedCpus(const sandbox::CgroupParents& parents);

  // Before a pinned attempt starts and after one has ended: the groups follow the scheduler.
  void follow(const sched::State& state);
  void pinned(AttemptId attempt);
  void ended(AttemptId attempt);
  // For an attempt that is not pinned: where it must say itself which CPUs it uses; else empty.
  std::vector<std::uint32_t> of_new_attempt() const;

 private:
  sandbox::CgroupParents parents_;
  bool by_group_ = false;            // one group for all: new attempts are in it by birth
  std::vector<std::uint32_t> cpus_;  // as last written; empty: all
  std::set<AttemptId> pinned_;
};

}  // namespace loam::node
