#include "sched/links.h"

namespace loam::sched {

Links::Links(const Machine& machine) : site_of_(machine.devices.size()) {
  for (std::uint32_t i = 0; i < machine.devices.size(); ++i) index_[machine.devices[i].id] = i;
  std::map<std::uint32_t, std::uint32_t> site_of_parent;
  for (std::uint32_t i = 0; i < machine.devices.size(); ++i) {
    const std::uint32_t parent = index_of(machine.devices[i].parent);
    const auto [found, fresh] = site_of_parent.emplace(
        parent == machine.devices.size() ? i : parent, static_cast<std::uint32_t>(sites_));
    if (fresh) ++sites_;
    site_of_[i] = found->second;
  }
  if (!machine.links.empty()) bandwidth_.assign(sites_ * sites_, 0);
  for (const Link& link : machine.links) {
    const std::uint32_t a = index_of(link.a), b = index_of(link.b);
    if (a >= site_of_.size() || b >= site_of_.size()) continue;
    bandwidth_[site_of_[a] * sites_ + site_of_[b]] = link.bandwidth;
    bandwidth_[site_of_[b] * sites_ + site_of_[a]] = link.bandwidth;
  }
}

std::uint32_t Links::index_of(const std::string& id) const {
  const auto found = index_.find(id);
  return found == index_.end() ? static_cast<std::uint32_t>(site_of_.size()) : found->second;
}

}  // namespace loam::sched
