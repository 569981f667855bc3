#include "sched/layout.h"

#include <algorithm>
#include <cctype>
#include <set>
#include <tuple>

namespace loam::sched {
namespace {

constexpr std::int64_t kGiB = 1ll << 30;
constexpr std::int64_t kOtherDeviceMilliPoints = 1000;

bool contains_ignoring_case(const std::string& text, const std::string& part) {
  const auto same = [](char a, char b) {
    return std::tolower(static_cast<unsigned char>(a)) ==
           std::tolower(static_cast<unsigned char>(b));
  };
  return std::search(text.begin(), text.end(), part.begin(), part.end(), same) != text.end();
}

std::int64_t threads_of_widest_core(const std::vector<Cpu>& cpus) {
  std::map<std::uint32_t, std::int64_t> threads;
  std::int64_t widest = 1;
  for (const Cpu& cpu : cpus) widest = std::max(widest, ++threads[cpu.core]);
  return widest;
}

std::int64_t weight_of(const Weights& weights, const Device& device, const Device* parent) {
  if (const auto found = weights.devices.find(device.kind); found != weights.devices.end())
    return found->second;
  if (device.kind != "gpu") return kOtherDeviceMilliPoints;
  if (parent == nullptr || parent->memory_bytes == 0) return weights.gpu_milli_points;
  return static_cast<std::int64_t>(static_cast<unsigned __int128>(weights.gpu_milli_points) *
                                   device.memory_bytes / parent->memory_bytes);
}

}  // namespace

Layout::Layout(const Machine& machine, const Weights& weights)
    : columns_of_(machine.devices.size(), 0),
      threads_per_core_(threads_of_widest_core(machine.cpus)),
      weights_(weights) {
  everything_ = {static_cast<std::int64_t>(machine.cpu_milli_total()),
                 static_cast<std::int64_t>(machine.memory_total())};
  std::map<std::string, const Device*> by_id;
  std::set<std::string> parents;
  for (const Device& device : machine.devices) {
    by_id[device.id] = &device;
    if (!device.parent.empty()) parents.insert(device.parent);
  }
  using Sort = std::tuple<std::string, std::string, std::uint64_t, bool>;
  std::map<Sort, std::size_t> columns;
  for (std::uint32_t index = 0; index < machine.devices.size(); ++index) {
    const Device& device = machine.devices[index];
    if (parents.contains(device.id)) continue;
    const bool shared = device.sharing.mode != SharingMode::exclusive && device.sharing.parts > 1;
    const Sort sort{device.kind, device.model, device.memory_bytes, !device.parent.empty()};
    const auto found = columns.find(sort);
    if (!shared && found != columns.end()) {
      columns_of_[index] = found->second;
      dimensions_[found->second - kFirstDevice].devices.push_back(index);
      ++everything_[found->second];
      continue;
    }
    const auto parent = by_id.find(device.parent);
    Dimension dimension{.kind = device.kind,
                        .model = device.model,
                        .memory_bytes = device.memory_bytes,
                        .sharing = shared ? device.sharing : Sharing{},
                        .slice = !device.parent.empty(),
                        .devices = {index}};
    dimension.milli_points =
        weight_of(weights, device, parent == by_id.end() ? nullptr : parent->second) /
        dimension.sharing.parts;
    dimension.kind_index = kind_index(device.kind);
    if (dimension.kind_index == kinds_.size()) kinds_.push_back(device.kind);
    columns_of_[index] = kFirstDevice + dimensions_.size();
    if (!shared) columns[sort] = columns_of_[index];
    everything_.push_back(dimension.sharing.parts);
    dimensions_.push_back(std::move(dimension));
  }
}

std::size_t Layout::kind_index(const std::string& kind) const {
  return static_cast<std::size_t>(std::find(kinds_.begin(), kinds_.end(), kind) - kinds_.begin());
}

std::vector<Choice> Layout::choices_for(const DeviceRequest& request) const {
  const bool says_what_is_enough = !request.model.empty() || request.memory_bytes_min > 0;
  const bool only_slices =
      std::none_of(dimensions_.begin(), dimensions_.end(),
                   [&](const Dimension& one) { return one.kind == request.kind && !one.slice; });
  std::vector<std::pair<std::uint64_t, Choice>> found;  // the smallest that does first
  for (std::size_t i = 0; i < dimensions_.size(); ++i) {
    const Dimension& one = dimensions_[i];
    if (one.kind != request.kind || one.memory_bytes < request.memory_bytes_min) continue;
    if (!request.model.empty() && !contains_ignoring_case(one.model, request.model)) continue;
    const bool shared = one.sharing.mode != SharingMode::exclusive;
    Choice choice{.column = kFirstDevice + i, .parts = one.sharing.parts, .shared = shared};
    if (request.share == Share::whole) {
      if (one.slice && !says_what_is_enough && !only_slices) continue;
    } else {
      const SharingMode wanted =
          request.share == Share::part ? SharingMode::enforced : SharingMode::time_sliced;
      if (one.sharing.mode != wanted) continue;
      const std::int64_t parts = one.sharing.parts;
      choice.parts =
          std::clamp<std::int64_t>((parts * request.share_permille + 999) / 1000, 1, parts);
    }
    found.emplace_back(one.memory_bytes, choice);
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Choice> choices;
  for (const auto& [memory, choice] : found) choices.push_back(choice);
  return choices;
}

Need Layout::need_of(const Claim& claim) const {
  const std::int64_t ranks = claim.ranks;
  Need need;
  std::int64_t cpu = static_cast<std::int64_t>(claim.rank.cpu_milli);
  if (claim.rank.pin) {
    // Whole cores; where cores differ in width, by the widest. Who asks for nearly all gets all.
    const std::int64_t step = 1000 * threads_per_core_;
    const std::int64_t rounded = (std::max<std::int64_t>(cpu, 1) + step - 1) / step * step;
    cpu = ranks == 1 && cpu <= everything_[kCpu] ? std::min(rounded, everything_[kCpu]) : rounded;
  }
  need.cpu_milli = cpu * ranks;
  need.memory_bytes = static_cast<std::int64_t>(claim.rank.memory_bytes) * ranks;
  for (const DeviceRequest& request : claim.rank.devices)
    if (request.count > 0)
      need.devices.push_back({.kind_index = kind_index(request.kind),
                              .pieces = std::int64_t{request.count} * ranks,
                              .choices = choices_for(request)});
  // The pickiest first: the others then do with what is left.
  std::stable_sort(need.devices.begin(), need.devices.end(), [](const auto& a, const auto& b) {
    return a.choices.size() < b.choices.size();
  });
  return need;
}

std::vector<std::int64_t> Layout::pieces_by_kind(const Need& need) const {
  std::vector<std::int64_t> pieces(kinds_.size(), 0);
  for (const DeviceNeed& device : need.devices)
    if (device.kind_index < pieces.size()) pieces[device.kind_index] += device.pieces;
  return pieces;
}

std::int64_t Layout::rate_of(std::span<const std::int64_t> taken) const {
  std::int64_t rate = taken[kCpu] * weights_.cpu_milli_points / 1000 +
                      static_cast<std::int64_t>(static_cast<__int128>(taken[kMemory]) *
                                                weights_.memory_gib_milli_points / kGiB);
  for (std::size_t i = 0; i < dimensions_.size(); ++i)
    rate += taken[kFirstDevice + i] * dimensions_[i].milli_points;
  return rate;
}

namespace {

// How many pieces of one kind the vector still has for `need`, at most `wanted`.
std::int64_t pieces_in(const DeviceNeed& need, std::span<const std::int64_t> free,
                       std::int64_t wanted) {
  std::int64_t found = 0;
  for (const Choice& choice : need.choices) {
    const std::int64_t there = free[choice.column];
    found += choice.shared ? (there >= choice.parts ? 1 : 0) : std::max<std::int64_t>(there, 0);
    if (found >= wanted) return wanted;
  }
  return found;
}

bool take_devices(const DeviceNeed& need, std::span<std::int64_t> free,
                  std::span<std::int64_t> taken) {
  std::int64_t left = need.pieces;
  for (const Choice& choice : need.choices) {
    if (left == 0) break;
    const std::int64_t there = free[choice.column];
    const std::int64_t pieces =
        choice.shared ? (there >= choice.parts ? 1 : 0) : std::clamp<std::int64_t>(there, 0, left);
    free[choice.column] -= pieces * choice.parts;
    taken[choice.column] += pieces * choice.parts;
    left -= pieces;
  }
  return left == 0;
}

}  // namespace

bool fits(const Need& need, std::span<const std::int64_t> free) {
  if (need.cpu_milli > free[kCpu] || need.memory_bytes > free[kMemory]) return false;
  if (need.devices.empty()) return true;
  if (need.devices.size() == 1)
    return pieces_in(need.devices[0], free, need.devices[0].pieces) == need.devices[0].pieces;
  Vector left(free.begin(), free.end()), taken(free.size(), 0);
  return std::all_of(need.devices.begin(), need.devices.end(),
                     [&](const DeviceNeed& device) { return take_devices(device, left, taken); });
}

bool take(const Need& need, std::span<std::int64_t> free, std::span<std::int64_t> taken) {
  if (need.cpu_milli > free[kCpu] || need.memory_bytes > free[kMemory]) return false;
  free[kCpu] -= need.cpu_milli;
  taken[kCpu] += need.cpu_milli;
  free[kMemory] -= need.memory_bytes;
  taken[kMemory] += need.memory_bytes;
  return std::all_of(need.devices.begin(), need.devices.end(),
                     [&](const DeviceNeed& device) { return take_devices(device, free, taken); });
}

}  // namespace loam::sched
