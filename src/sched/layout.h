// The machine as a vector: CPU, memory, and one dimension for each set of devices that are as good
// as one another. Fitting, waiting and reserving are done on such vectors; which CPUs and devices
// a claim gets is chosen only when it is granted (place.h).
//
//   [cpu_milli, memory_bytes, dimension 0, dimension 1, …]
//   exclusive devices of one kind, model and memory: one dimension, counted in devices
//   a shared device: a dimension of its own, counted in parts
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "sched/claim.h"
#include "sched/machine.h"
#include "sched/policy.h"

namespace loam::sched {

inline constexpr std::size_t kCpu = 0;
inline constexpr std::size_t kMemory = 1;
inline constexpr std::size_t kFirstDevice = 2;

using Vector = std::vector<std::int64_t>;

struct Dimension {
  std::string kind;
  std::string model;
  std::uint64_t memory_bytes = 0;
  Sharing sharing;
  bool slice = false;
  std::int64_t milli_points = 0;       // of one unit (a device, or a part of one)
  std::size_t kind_index = 0;          // into Layout::kinds
  std::vector<std::uint32_t> devices;  // indexes into Machine::devices
};

// One way to satisfy a device request.
struct Choice {
  std::size_t column = 0;  // of the vector
  std::int64_t parts = 1;  // that one piece takes
  bool shared = false;     // at most one piece of a claim on it
  bool operator==(const Choice&) const = default;
};

struct DeviceNeed {
  std::size_t kind_index = 0;
  std::int64_t pieces = 0;      // of all ranks
  std::vector<Choice> choices;  // in order of preference
  bool operator==(const DeviceNeed&) const = default;
};

// What one task of a claim takes, all ranks together.
struct Need {
  std::int64_t cpu_milli = 0;  // whole cores where pinned
  std::int64_t memory_bytes = 0;
  std::vector<DeviceNeed> devices;
};

class Layout {
 public:
  Layout() = default;
  Layout(const Machine& machine, const Weights& weights);

  const std::vector<Dimension>& dimensions() const { return dimensions_; }
  const std::vector<std::string>& kinds() const { return kinds_; }
  std::size_t columns() const { return kFirstDevice + dimensions_.size(); }
  // Of a device (by index); 0 for a GPU that is cut into slices, which is never handed out.
  std::size_t column_of(std::uint32_t device) const { return columns_of_[device]; }
  const Dimension& dimension(std::size_t column) const {
    return dimensions_[column - kFirstDevice];
  }
  // A request that no device matches has a need without choices.
  Need need_of(const Claim& claim) const;
  std::vector<std::int64_t> pieces_by_kind(const Need& need) const;
  // Points per hour, in thousandths.
  std::int64_t rate_of(std::span<const std::int64_t> taken) const;
  // Everything, whatever state its devices are in.
  const Vector& everything() const { return everything_; }

 private:
  std::vector<Choice> choices_for(const DeviceRequest& request) const;
  std::size_t kind_index(const std::string& kind) const;  // kinds_.size(): unknown

  std::vector<Dimension> dimensions_;
  std::vector<std::string> kinds_;
  std::vector<std::size_t> columns_of_;
  Vector everything_;
  std::int64_t threads_per_core_ = 1;
  Weights weights_;
};

bool fits(const Need& need, std::span<const std::int64_t> free);
// Takes `need` out of `free` and notes in `taken` what that was; false (and `free` spoilt) where it
// does not fit.
bool take(const Need& need, std::span<std::int64_t> free, std::span<std::int64_t> taken);

}  // namespace loam::sched
