// The two ends of a queue of slot indexes in shared memory.
//
//   producer: entries[tail] = slot, tail += 1, fence, armed? → wake
//   consumer: tail != head? take; else armed = 1, fence, look again, sleep
//
// Format: docs/formats/channel.md. Threads: one producer, one consumer, each in its own process.
// Trust: each end keeps its own position in private memory and reads the other's as foreign bytes:
// a position that cannot be is `corrupt`, after which the peer must be ended.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "base/result.h"
#include "channel/abi/loam_channel.h"

namespace loam::channel {

class QueueProducer {
 public:
  QueueProducer() = default;
  explicit QueueProducer(loam_channel_queue* queue) : queue_(queue) {}

  // Publishes the index. True: the consumer had armed itself (the flag is cleared) and must be
  // woken. Fails with `full`, or `corrupt` where the consumer's head cannot be.
  Result<bool> push(std::uint32_t slot);
  // FUTEX_WAKE on tail; the submit side's way of waking.
  void wake_futex();

 private:
  loam_channel_queue* queue_ = nullptr;
  std::uint32_t tail_ = 0;
};

class QueueConsumer {
 public:
  QueueConsumer() = default;
  explicit QueueConsumer(loam_channel_queue* queue) : queue_(queue) {}

  // The next index, or none. `corrupt` where the producer's tail cannot be.
  Result<std::optional<std::uint32_t>> pop();
  // Announces sleep. False: something came in between; take it before sleeping.
  bool arm();
  void disarm();
  // FUTEX_WAIT on tail, bounded; the submit side's way of sleeping. Returns early for any reason.
  void wait_futex(std::chrono::milliseconds bound);

 private:
  loam_channel_queue* queue_ = nullptr;
  std::uint32_t head_ = 0;
};

}  // namespace loam::channel
