#include "sched/waiting.h"

#include <algorithm>
#include <bit>

#include "base/result.h"

namespace loam::sched {
namespace {

// 0, or the largest power of two that is not above: amounts within a factor of two are alike.
std::int64_t floor_of(std::int64_t amount) {
  return amount <= 0
             ? 0
             : static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(amount)));
}

void set_bit(ClassBits& bits, ClassId id, bool value) {
  const std::size_t word = id / 64;
  if (word >= bits.size()) bits.resize(word + 1, 0);
  const std::uint64_t bit = std::uint64_t{1} << (id % 64);
  bits[word] = value ? bits[word] | bit : bits[word] & ~bit;
}

}  // namespace

ClassId Waiting::class_of(const Need& need, std::int64_t limit_ms, const Layout& layout) {
  ClassFloor floor{.need = need, .limit_ms = floor_of(limit_ms), .pieces = {}};
  floor.need.cpu_milli = floor_of(need.cpu_milli);
  floor.need.memory_bytes = floor_of(need.memory_bytes);
  std::vector<std::int64_t> key{floor.need.cpu_milli, floor.need.memory_bytes, floor.limit_ms};
  for (DeviceNeed& device : floor.need.devices) {
    device.pieces = floor_of(device.pieces);
    key.push_back(device.pieces);
    key.push_back(static_cast<std::int64_t>(device.kind_index));
    key.push_back(static_cast<std::int64_t>(device.choices.size()));
    for (const Choice& choice : device.choices) {
      key.push_back(static_cast<std::int64_t>(choice.column));
      key.push_back(choice.parts);
    }
  }
  const auto [found, fresh] =
      classes_.emplace(std::move(key), static_cast<ClassId>(floors_.size()));
  if (fresh) {
    floor.pieces = layout.pieces_by_kind(floor.need);
    least_cpu_.push_back(floor.need.cpu_milli);
    least_memory_.push_back(floor.need.memory_bytes);
    floors_.push_back(std::move(floor));
    waiting_in_.push_back(0);
  }
  return found->second;
}

std::vector<ClassId> Waiting::classes_within(std::int64_t cpu_milli,
                                             std::int64_t memory_bytes) const {
  std::vector<ClassId> within;
  for (ClassId id = 0; id < floors_.size(); ++id)
    if (least_cpu_[id] <= cpu_milli && least_memory_[id] <= memory_bytes && waiting_in_[id] > 0)
      within.push_back(id);
  return within;
}

// Within a factor of two, the floor follows what really waits: where all ask for the same, it is
// just that.
void Waiting::lower_floor(ClassId id, const Need& need, std::int64_t limit_ms) {
  ClassFloor& floor = floors_[id];
  const bool first = waiting_in_[id] == 0;
  const auto lower = [&](std::int64_t& least, std::int64_t amount) {
    least = first ? amount : std::min(least, amount);
  };
  lower(floor.need.cpu_milli, need.cpu_milli);
  lower(floor.need.memory_bytes, need.memory_bytes);
  lower(floor.limit_ms, limit_ms);
  std::fill(floor.pieces.begin(), floor.pieces.end(), 0);
  for (std::size_t i = 0; i < need.devices.size(); ++i) {
    DeviceNeed& device = floor.need.devices[i];
    lower(device.pieces, need.devices[i].pieces);
    if (device.kind_index < floor.pieces.size()) floor.pieces[device.kind_index] += device.pieces;
  }
  least_cpu_[id] = floor.need.cpu_milli;
  least_memory_[id] = floor.need.memory_bytes;
}

void Waiting::insert(const Place& place, const Need& need, std::int64_t limit_ms) {
  lower_floor(place.class_id, need, limit_ms);
  Lines& lines = levels_[place.priority][place.association];
  Line& line = lines.by_class[place.class_id];
  const bool fresh = line.claims.insert(place.arrival).second;
  LOAM_ASSERT(fresh);
  lines.arrivals.insert(place.arrival);
  set_bit(lines.occupied, place.class_id, true);
  set_bit(lines.tested, place.class_id, false);
  // One that comes back (a retry, a release) may stand before those that were looked at.
  if (place.arrival.number <= line.tested_through) line.tested_epoch = 0;
  ++waiting_in_[place.class_id];
  ++size_;
}

void Waiting::erase(const Place& place) {
  Lines* lines = find_lines(place);
  LOAM_ASSERT(lines != nullptr);
  const auto line = lines->by_class.find(place.class_id);
  LOAM_ASSERT(line != lines->by_class.end() && line->second.claims.erase(place.arrival) == 1);
  lines->arrivals.erase(place.arrival);
  --waiting_in_[place.class_id];
  --size_;
  if (!line->second.claims.empty()) return;
  lines->by_class.erase(line);
  set_bit(lines->occupied, place.class_id, false);
  if (!lines->by_class.empty()) return;
  const auto level = levels_.find(place.priority);
  level->second.erase(place.association);
  if (level->second.empty()) levels_.erase(level);
}

void Waiting::mark_tested(const Place& place, std::uint64_t epoch) {
  Lines* lines = find_lines(place);
  Line& line = lines->by_class.at(place.class_id);
  line.tested_epoch = epoch;
  line.tested_through = place.arrival.number;
  if (lines->tested_epoch != epoch) {
    lines->tested_epoch = epoch;
    lines->tested.assign(lines->tested.size(), 0);
  }
  if (line.claims.rbegin()->number == place.arrival.number)
    set_bit(lines->tested, place.class_id, true);
}

Lines* Waiting::find_lines(const Place& place) {
  const auto level = levels_.find(place.priority);
  if (level == levels_.end()) return nullptr;
  const auto lines = level->second.find(place.association);
  return lines == level->second.end() ? nullptr : &lines->second;
}

bool Waiting::contains(const Place& place) const {
  const auto level = levels_.find(place.priority);
  if (level == levels_.end()) return false;
  const auto lines = level->second.find(place.association);
  if (lines == level->second.end()) return false;
  const auto line = lines->second.by_class.find(place.class_id);
  return line != lines->second.by_class.end() && line->second.claims.contains(place.arrival) &&
         lines->second.arrivals.contains(place.arrival);
}

void Waiting::clear() { *this = Waiting(); }

}  // namespace loam::sched
