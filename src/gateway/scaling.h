// How many replicas a model wants whose number may change. Pure: no clock, no I/O.
//
// One more once a request has waited for kGrowAfter while all that are wanted are there and busy;
// the next one not before the last has had as long to help. One less once kShrinkAfter has passed
// in which never so many were busy at once and no request waited as long as that. So requests that
// come and go faster than kShrinkAfter change nothing.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "api/endpoint.h"

namespace loam::gateway {

inline constexpr std::chrono::seconds kGrowAfter{1};
inline constexpr std::chrono::seconds kShrinkAfter{30};

class Scaling {
 public:
  struct Load {
    std::size_t serving = 0;            // replicas that take batches
    std::size_t busy = 0;               // of them, with one
    std::int64_t waiting_since_ns = 0;  // of the oldest request that no replica has; 0: none
  };
  struct Decision {
    std::uint32_t wanted = 0;
    std::int64_t look_again_ns = 0;  // 0: when the load changes
  };

  // Begins at what the node has already.
  Scaling(const api::ScalePlan& plan, std::int64_t now_ns);
  void set_limits(const api::ScalePlan& plan, std::int64_t now_ns);
  // At each change of the load, and when the last decision asked for it.
  Decision look(const Load& load, std::int64_t now_ns);
  std::uint32_t wanted() const { return wanted_; }

 private:
  void needed(std::size_t replicas, std::int64_t now_ns);
  std::int64_t grow(const Load& load, std::int64_t now_ns);

  std::uint32_t min_;
  std::uint32_t max_;
  std::uint32_t wanted_;
  Load last_;
  std::int64_t helped_ns_ = 0;           // when a replica last began to serve, or was asked for
  std::vector<std::int64_t> needed_ns_;  // [n]: when n+1 replicas were last needed at once
};

}  // namespace loam::gateway
