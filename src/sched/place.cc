#include "sched/place.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "base/result.h"
#include "sched/cores.h"

namespace loam::sched {
namespace {

// The free devices near each one: of its GPU, linked, of its node. Few, where the neighbourhood is
// used already: taking one there spoils least for those who want several.
std::vector<std::int64_t> neighbours_of(const Machine& machine, const Links& links,
                                        const std::vector<std::uint32_t>& free) {
  std::vector<std::int64_t> at_site(links.sites(), 0);
  std::map<std::int32_t, std::int64_t> in_node;
  for (const std::uint32_t device : free) {
    ++at_site[links.site(device)];
    ++in_node[machine.devices[device].numa];
  }
  std::vector<std::int64_t> linked(links.sites(), -1);
  std::vector<std::int64_t> neighbours;
  for (const std::uint32_t device : free) {
    const std::uint32_t site = links.site(device);
    if (linked[site] < 0) {
      linked[site] = 0;
      for (std::uint32_t other = 0; other < links.sites(); ++other)
        if (other != site && at_site[other] > 0 && links.between_sites(site, other) > 0)
          linked[site] += at_site[other];
    }
    neighbours.push_back(((at_site[site] - 1) << 40) + (linked[site] << 20) +
                         in_node[machine.devices[device].numa]);
  }
  return neighbours;
}

// Worst link, same node, sum of links, then what is left to others: larger is better.
struct SetScore {
  std::uint64_t worst = ~std::uint64_t{0};
  std::int64_t same_node = 0;
  std::uint64_t sum = 0;
  std::int64_t lonely = 0;
  auto operator<=>(const SetScore&) const = default;
};

class DeviceChooser {
 public:
  DeviceChooser(const State& state, const Dimension& dimension,
                const std::vector<std::int64_t>& used)
      : machine_(state.machine), links_(state.links) {
    for (const std::uint32_t device : dimension.devices)
      if (machine_.devices[device].state == DeviceState::usable && used[device] == 0)
        free_.push_back(device);
  }

  std::vector<std::uint32_t> choose(std::size_t count, std::int32_t node) {
    LOAM_ASSERT(free_.size() >= count);
    if (free_.size() == count) return free_;
    // Without this a grant on a machine of a thousand GPUs, as simulations have them, compares
    // every set with every other to find that all are as good.
    if (all_alike()) return {free_.begin(), free_.begin() + static_cast<std::ptrdiff_t>(count)};
    neighbours_ = neighbours_of(machine_, links_, free_);
    return count == 1 ? std::vector{one(node)} : several(count);
  }

 private:
  bool all_alike() const {
    if (!machine_.links.empty()) return false;
    return std::all_of(free_.begin(), free_.end(), [&](std::uint32_t device) {
      return machine_.devices[device].parent.empty() &&
             machine_.devices[device].numa == machine_.devices[free_[0]].numa;
    });
  }

  std::uint32_t one(std::int32_t node) const {
    const auto rank = [&](std::size_t i) {
      return std::pair(node >= 0 && machine_.devices[free_[i]].numa != node, neighbours_[i]);
    };
    std::size_t best = 0;
    for (std::size_t i = 1; i < free_.size(); ++i)
      if (rank(i) < rank(best)) best = i;
    return free_[best];
  }

  std::vector<std::uint32_t> several(std::size_t count) const {
    SetScore best_score;
    std::vector<std::uint32_t> best;
    std::vector<bool> begun(links_.sites(), false);  // slices of one GPU are all alike
    for (std::size_t seed = 0; seed < free_.size(); ++seed) {
      if (begun[links_.site(free_[seed])]) continue;
      begun[links_.site(free_[seed])] = true;
      SetScore score;
      auto grown = grow(seed, count, score);
      if (best.empty() || best_score < score) best = std::move(grown), best_score = score;
    }
    return best;
  }

  // Grows a set from a seed by the device that is linked best to those already in it.
  std::vector<std::uint32_t> grow(std::size_t seed, std::size_t count, SetScore& total) const {
    std::vector<std::uint32_t> chosen{free_[seed]};
    std::vector<bool> used(free_.size(), false);
    std::vector<SetScore> scores(free_.size());
    used[seed] = true;
    total = {.lonely = -neighbours_[seed]};
    while (chosen.size() < count) {
      std::size_t best = free_.size();
      const std::uint32_t last = chosen.back();
      for (std::size_t i = 0; i < free_.size(); ++i) {
        if (used[i]) continue;
        const std::uint64_t link = links_.between(last, free_[i]);
        scores[i].worst = std::min(scores[i].worst, link);
        scores[i].sum += link;
        scores[i].same_node +=
            machine_.devices[last].numa == machine_.devices[free_[i]].numa ? 1 : 0;
        scores[i].lonely = -neighbours_[i];
        if (best == free_.size() || scores[best] < scores[i]) best = i;
      }
      used[best] = true;
      chosen.push_back(free_[best]);
      total.worst = std::min(total.worst, scores[best].worst);
      total.sum += scores[best].sum;
      total.same_node += scores[best].same_node;
      total.lonely += scores[best].lonely;
    }
    return chosen;
  }

  const Machine& machine_;
  const Links& links_;
  std::vector<std::uint32_t> free_;
  std::vector<std::int64_t> neighbours_;
};

// The nodes of the CPUs; where their memory is too small for the rank, the largest others too.
std::vector<std::uint32_t> memory_nodes(const Machine& machine, const RankPlacement& rank,
                                        std::uint64_t memory_bytes) {
  std::set<std::uint32_t> nodes;
  for (const Cpu& cpu : machine.cpus)
    if (std::binary_search(rank.cpus.begin(), rank.cpus.end(), cpu.id)) nodes.insert(cpu.numa);
  const auto& memory = machine.memory_bytes;
  std::vector<std::uint32_t> others;
  std::uint64_t bytes = 0;
  for (std::uint32_t node = 0; node < memory.size(); ++node)
    nodes.contains(node) ? void(bytes += memory[node]) : others.push_back(node);
  std::stable_sort(others.begin(), others.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return memory[a] > memory[b]; });
  for (const std::uint32_t node : others) {
    if (bytes >= memory_bytes) break;
    nodes.insert(node);
    bytes += memory[node];
  }
  return {nodes.begin(), nodes.end()};
}

class Placer {
 public:
  Placer(const State& state, const Claim& claim, const Vector& taken)
      : state_(state), left_(taken), used_(state.parts_used), nodes_(claim.ranks, -1) {
    placed_.placement.ranks.resize(claim.ranks);
  }

  void devices(const DeviceNeed& need) {
    std::vector<Piece> pieces;
    for (const Choice& choice : need.choices) {
      const auto wanted = need.pieces - static_cast<std::int64_t>(pieces.size());
      const std::int64_t there = left_[choice.column];
      const std::int64_t here =
          choice.shared ? (there >= choice.parts && wanted > 0 ? 1 : 0) : std::min(wanted, there);
      if (here > 0) take(choice, here, pieces);
    }
    deal(pieces);
  }

  void cores(std::int64_t cpus_each, std::uint64_t memory_each) {
    Cores free(state_.machine, state_.pinned);
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      RankPlacement& rank = placed_.placement.ranks[i];
      rank.cpus = free.take(std::max<std::int64_t>(cpus_each, 1), nodes_[i]);
      rank.numa_nodes = memory_nodes(state_.machine, rank, memory_each);
    }
  }

  Placed result() { return std::move(placed_); }

 private:
  struct Piece {
    std::uint32_t device = 0;
    std::uint32_t parts = 1, of = 1;
  };

  void take(const Choice& choice, std::int64_t count, std::vector<Piece>& pieces) {
    const Dimension& dimension = state_.layout.dimension(choice.column);
    const auto chosen = choice.shared ? std::vector{dimension.devices.front()}
                                      : DeviceChooser(state_, dimension, used_)
                                            .choose(static_cast<std::size_t>(count), node_);
    for (const std::uint32_t device : chosen) {
      pieces.push_back({device, static_cast<std::uint32_t>(choice.parts), dimension.sharing.parts});
      placed_.parts.emplace_back(device, choice.parts);
      used_[device] += choice.parts;
      if (node_ < 0) node_ = state_.machine.devices[device].numa;
    }
    left_[choice.column] -= count * choice.parts;
  }

  // In an order in which neighbours stand together, so that each rank's are close.
  void deal(std::vector<Piece>& pieces) {
    const auto& devices = state_.machine.devices;
    const auto rank = [&](const Piece& piece) {
      return std::tuple(devices[piece.device].numa, state_.links.site(piece.device), piece.device);
    };
    std::sort(pieces.begin(), pieces.end(),
              [&](const Piece& a, const Piece& b) { return rank(a) < rank(b); });
    const std::size_t each = std::max<std::size_t>(pieces.size() / nodes_.size(), 1);
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      const Device& device = devices[pieces[i].device];
      placed_.placement.ranks[i / each].devices.push_back(
          {device.id, pieces[i].parts, pieces[i].of});
      if (nodes_[i / each] < 0) nodes_[i / each] = device.numa;
    }
  }

  const State& state_;
  Vector left_;
  std::vector<std::int64_t> used_;
  std::vector<std::int32_t> nodes_;  // of each rank's devices
  std::int32_t node_ = -1;           // of the first device: others of the claim stay near
  Placed placed_;
};

}  // namespace

Placed place(const State& state, const Claim& claim, const Need& need, const Vector& taken) {
  Placer placer(state, claim, taken);
  for (const DeviceNeed& device : need.devices) placer.devices(device);
  if (claim.rank.pin)
    placer.cores((static_cast<std::int64_t>(claim.rank.cpu_milli) + 999) / 1000,
                 claim.rank.memory_bytes);
  return placer.result();
}

}  // namespace loam::sched
