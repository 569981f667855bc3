#include "gateway/worker.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <cstring>

#include "channel/handshake.h"

namespace loam::gateway {

Result<std::unique_ptr<Worker>> Worker::welcome(EventLoop& loop, Owner& owner, channel::Pool& pool,
                                                Fd socket, Identity identity) {
  // Non-blocking, because an epoll loop reads it, and so that no worker can make another's write
  // block.
  Fd eventfd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!eventfd) return fail_errno("eventfd");
  std::memset(pool.queue_pair(identity.queue), 0, sizeof(loam_channel_queue_pair));
  std::unique_ptr<Worker> worker(
      new Worker(loop, owner, pool, std::move(socket), std::move(eventfd), std::move(identity)));
  Worker* self = worker.get();
  (void)worker->complete_.arm();
  LOAM_CHECK(loop.add(self->socket_.get(), EPOLLIN, [self](std::uint32_t) { self->on_socket(); }));
  LOAM_CHECK(
      loop.add(self->eventfd_.get(), EPOLLIN, [self](std::uint32_t) { self->on_eventfd(); }));
  LOAM_CHECK(channel::send_welcome(self->socket_.get(), self->identity_.queue, pool.memfd(),
                                   self->eventfd_.get()));
  return worker;
}

Worker::Worker(EventLoop& loop, Owner& owner, channel::Pool& pool, Fd socket, Fd eventfd,
               Identity identity)
    : loop_(loop),
      owner_(owner),
      identity_(std::move(identity)),
      socket_(std::move(socket)),
      eventfd_(std::move(eventfd)),
      submit_(&pool.queue_pair(identity_.queue)->submit),
      complete_(&pool.queue_pair(identity_.queue)->complete) {}

Worker::~Worker() {
  loop_.remove(socket_.get());
  loop_.remove(eventfd_.get());
}

Result<void> Worker::submit(Batch next) {
  LOAM_ASSERT(!batch);
  const std::uint32_t slot = next.slot;
  batch = std::move(next);
  if (LOAM_TRY(submit_.push(slot))) submit_.wake_futex();
  return {};
}

void Worker::on_socket() {
  const auto packet = channel::receive_packet(socket_.get());
  if (packet && !*packet) return;
  if (!packet) return owner_.on_ended(*this, packet.error().text, true);
  if ((*packet)->empty()) return owner_.on_ended(*this, leaving_ ? "" : "the worker died", false);
  const channel::WorkerWord word = channel::parse_word(**packet);
  bool& said = word == channel::WorkerWord::ready ? ready_ : leaving_;
  // Each word once: a flood of them would keep us busy telling the node.
  if (word == channel::WorkerWord::unknown || said)
    return owner_.on_ended(*this, "sent a packet that has no place here", true);
  said = true;
  owner_.on_word(*this);
}

void Worker::on_eventfd() {
  eventfd_t count = 0;
  (void)::eventfd_read(eventfd_.get(), &count);
  const auto drained = drain();
  if (!drained) owner_.on_ended(*this, drained.error().text, true);
}

// All that is there, then arm, then once more what came in between.
Result<void> Worker::drain() {
  do {
    // Every completion is of a slot that was submitted, so this ends: a forged one is an error.
    for (;;) {
      const auto slot = LOAM_TRY(complete_.pop());
      if (!slot) break;
      LOAM_CHECK(owner_.on_completed(*this, *slot));
    }
  } while (!complete_.arm());
  return {};
}

}  // namespace loam::gateway
