#include "sched/cores.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "base/result.h"

namespace loam::sched {

Cores::Cores(const Machine& machine, const std::vector<bool>& pinned) {
  std::set<std::uint32_t> taken;
  for (std::size_t i = 0; i < machine.cpus.size(); ++i)
    if (pinned[i]) taken.insert(machine.cpus[i].core);
  std::map<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>, std::vector<std::uint32_t>> all;
  for (const Cpu& cpu : machine.cpus)
    if (!taken.contains(cpu.core)) all[{cpu.numa, cpu.cache, cpu.core}].push_back(cpu.id);
  for (auto& [key, cpus] : all) {
    const auto [numa, cache, core] = key;
    if (groups_.empty() || groups_.back().numa != numa || groups_.back().cache != cache)
      groups_.push_back({.numa = numa, .cache = cache, .cores = {}});
    groups_.back().room += static_cast<std::int64_t>(cpus.size());
    groups_.back().cores.push_back(std::move(cpus));
  }
  for (Group& group : groups_) {
    std::reverse(group.cores.begin(), group.cores.end());  // the lowest numbers are taken first
    std::stable_sort(group.cores.begin(), group.cores.end(),
                     [](const auto& a, const auto& b) { return a.size() < b.size(); });
  }
}

// A node that holds them all, with the least left over; else the roomiest. In it a cache by the
// same rule.
Cores::Group& Cores::best_group(std::int64_t cpus, std::int32_t node) {
  std::map<std::uint32_t, std::int64_t> rooms;
  for (const Group& group : groups_) rooms[group.numa] += group.room;
  const auto tightness = [&](std::int64_t room) {
    return room >= cpus ? std::pair(0, room) : std::pair(1, -room);
  };
  const auto rank = [&](const Group& group) {
    const bool elsewhere = node >= 0 && group.numa != static_cast<std::uint32_t>(node);
    return std::tuple(group.room == 0, elsewhere, tightness(rooms[group.numa]), group.numa,
                      tightness(group.room));
  };
  auto best = groups_.begin();
  for (auto group = groups_.begin(); group != groups_.end(); ++group)
    if (rank(*group) < rank(*best)) best = group;
  return *best;
}

std::vector<std::uint32_t> Cores::take(std::int64_t cpus, std::int32_t node) {
  std::vector<std::uint32_t> taken;
  const auto any_room = [&] {
    return std::any_of(groups_.begin(), groups_.end(), [](const auto& g) { return g.room > 0; });
  };
  while (cpus > 0 && any_room()) {
    Group& group = best_group(cpus, node);
    node = static_cast<std::int32_t>(group.numa);
    while (cpus > 0 && !group.cores.empty()) {
      // The widest core that is not too wide, else the narrowest.
      auto core = std::find_if(group.cores.rbegin(), group.cores.rend(), [&](const auto& one) {
        return static_cast<std::int64_t>(one.size()) <= cpus;
      });
      const auto chosen = core == group.cores.rend() ? group.cores.begin() : std::prev(core.base());
      const auto width = static_cast<std::int64_t>(chosen->size());
      cpus -= width;
      group.room -= width;
      taken.insert(taken.end(), chosen->begin(), chosen->end());
      group.cores.erase(chosen);
    }
  }
  std::sort(taken.begin(), taken.end());
  return taken;
}

}  // namespace loam::sched
