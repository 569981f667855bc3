// How devices are linked: slices are where their GPUs are.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sched/machine.h"

namespace loam::sched {

class Links {
 public:
  Links() = default;
  explicit Links(const Machine& machine);
  // Devices that are slices of one GPU, or the GPU itself, have the same site; 0, 1, …
  std::uint32_t site(std::uint32_t device) const { return site_of_[device]; }
  std::size_t sites() const { return sites_; }
  // 0 where there is no link; slices of one GPU are as close as can be.
  std::uint64_t between_sites(std::uint32_t a, std::uint32_t b) const {
    if (a == b) return kSameSite;
    return bandwidth_.empty() ? 0 : bandwidth_[a * sites_ + b];
  }
  std::uint64_t between(std::uint32_t a, std::uint32_t b) const {
    return between_sites(site_of_[a], site_of_[b]);
  }
  // By id; machine.devices.size() where there is none.
  std::uint32_t index_of(const std::string& id) const;

 private:
  static constexpr std::uint64_t kSameSite = ~std::uint32_t{0};
  std::vector<std::uint32_t> site_of_;
  std::size_t sites_ = 0;
  std::vector<std::uint32_t> bandwidth_;  // of sites; empty where nothing is linked
  std::map<std::string, std::uint32_t> index_;
};

}  // namespace loam::sched
