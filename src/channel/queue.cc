#include "channel/queue.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <ctime>

namespace loam::channel {
namespace {

// Words in shared memory are accessed as atomics; both sides are lock-free words of 4 bytes.
std::atomic_ref<std::uint32_t> word(std::uint32_t& value) {
  return std::atomic_ref<std::uint32_t>(value);
}
static_assert(std::atomic_ref<std::uint32_t>::is_always_lock_free);

constexpr std::uint32_t kMask = LOAM_CHANNEL_QUEUE_CAPACITY - 1;

}  // namespace

Result<bool> QueueProducer::push(std::uint32_t slot) {
  const std::uint32_t used = tail_ - word(queue_->head).load();
  if (used > LOAM_CHANNEL_QUEUE_CAPACITY)
    return fail(ErrorCode::corrupt, "queue head out of range");
  if (used == LOAM_CHANNEL_QUEUE_CAPACITY) return fail(ErrorCode::full, "queue is full");
  word(queue_->entries[tail_ & kMask]).store(slot, std::memory_order_relaxed);  // published by tail
  word(queue_->tail).store(++tail_);
  // Pairs with arm(): either we see armed, or the consumer sees this tail. Both are seq_cst.
  return word(queue_->armed).load() != 0 && word(queue_->armed).exchange(0) != 0;
}

void QueueProducer::wake_futex() {
  ::syscall(SYS_futex, &queue_->tail, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

Result<std::optional<std::uint32_t>> QueueConsumer::pop() {
  const std::uint32_t ready = word(queue_->tail).load() - head_;
  if (ready == 0) return std::optional<std::uint32_t>{};
  if (ready > LOAM_CHANNEL_QUEUE_CAPACITY)
    return fail(ErrorCode::corrupt, "queue tail out of range");
  const std::uint32_t slot = word(queue_->entries[head_ & kMask]).load(std::memory_order_relaxed);
  word(queue_->head).store(++head_);
  return std::optional(slot);
}

bool QueueConsumer::arm() {
  word(queue_->armed).store(1);
  if (word(queue_->tail).load() == head_) return true;
  disarm();
  return false;
}

void QueueConsumer::disarm() { word(queue_->armed).store(0); }

void QueueConsumer::wait_futex(std::chrono::milliseconds bound) {
  const timespec limit = {.tv_sec = bound.count() / 1000,
                          .tv_nsec = (bound.count() % 1000) * 1'000'000};
  ::syscall(SYS_futex, &queue_->tail, FUTEX_WAIT, head_, &limit, nullptr, 0);
}

}  // namespace loam::channel
