// The slot pool: a sealed memfd with header, queue pairs and slots, and who owns each slot.
//
//   free ─take─▶ filling ─submit(worker)─▶ submitted ─complete─▶ reading ─release─▶ free
//                                             └─ bury(worker) ─▶ buried ─exhume(worker)─▶ free
//
// Format: docs/formats/channel.md. Threads: the owner's loop alone. Trust: the state of a slot lies
// here, in private memory, never in the memfd; what a worker wrote is copied, then checked
// (Answer).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "channel/abi/loam_channel.h"
#include "channel/signature.h"

namespace loam::channel {

inline constexpr std::uint32_t kQueuePairs = 64;
inline constexpr std::uint32_t kSlotsMax = 64;
inline constexpr std::uint32_t kSlotsMin = 4;
inline constexpr std::uint64_t kPoolBytesWanted = 64u << 20;  // fewer slots rather than more memory
inline constexpr std::uint64_t kPoolBytesMax = 4ull << 30;  // over it the model's batch is refused
static_assert(kSlotsMax <= LOAM_CHANNEL_QUEUE_CAPACITY);

// A worker's connection; never used twice by one pool.
using WorkerId = std::uint64_t;

// What a worker said about a slot, copied out of the memfd and checked.
struct Answer {
  bool raised = false;
  std::string error;  // where raised: the exception's text, printable
  std::uint64_t compute_ns = 0;
};

class Pool {
 public:
  // Fails with too_large where the batch does not fit kPoolBytesMax.
  static Result<Pool> create(const Signature& signature, std::uint32_t batch_max);

  const Signature& signature() const { return signature_; }
  std::uint32_t batch_max() const { return batch_max_; }
  std::uint32_t slot_count() const { return static_cast<std::uint32_t>(slots_.size()); }
  int memfd() const { return memfd_.get(); }
  loam_channel_queue_pair* queue_pair(std::uint32_t index);

  // Where tensor data of a slot lies; inputs and outputs in the signature's order.
  std::byte* input(std::uint32_t slot, std::size_t tensor);
  const std::byte* output(std::uint32_t slot, std::size_t tensor) const;

  std::optional<std::uint32_t> take();
  // Writes the slot's head for `rows` rows and hands it to the worker; push it to its queue next.
  void submit(std::uint32_t slot, std::uint32_t rows, WorkerId worker);
  // Takes a completed slot back. `corrupt`: not submitted to this worker, another sequence, or a
  // head that is not what was handed out; the worker must be ended. The slot is then still the
  // worker's.
  Result<Answer> complete(std::uint32_t slot, WorkerId worker);
  void release(std::uint32_t slot);
  // The worker is gone, its processes perhaps not: what it held is not used until exhume().
  void bury(WorkerId worker);
  void exhume(WorkerId worker);

 private:
  enum class State { free, filling, submitted, reading, buried };
  struct Slot {
    State state = State::free;
    WorkerId worker = 0;
    std::uint64_t sequence = 0;
    std::uint32_t rows = 0;
  };

  loam_channel_slot* head(std::uint32_t slot) const;
  std::vector<loam_channel_tensor> tensors_for(std::uint32_t rows) const;

  Signature signature_;
  std::uint32_t batch_max_ = 0;
  std::vector<std::uint64_t> offsets_;  // of inputs, then outputs, from the slot's start
  std::uint64_t slot_stride_ = 0;
  std::uint64_t slots_offset_ = 0;
  Fd memfd_;
  Mapping mapping_;
  std::vector<Slot> slots_;
  std::uint64_t sequence_ = 0;
};

}  // namespace loam::channel
