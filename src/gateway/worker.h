// One connected worker: its socket (whose end is its death), its queue pair, and the batch that it
// holds.
//
// Trust: a worker is foreign. A position that cannot be, or a completion that pool.complete()
// refuses, ends it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "base/sha256.h"
#include "channel/pool.h"
#include "channel/queue.h"
#include "gateway/batch_queue.h"
#include "gateway/event_loop.h"

namespace loam::gateway {

struct Batch {
  std::uint32_t slot = 0;
  std::uint32_t rows = 0;
  std::int64_t submitted_ns = 0;
  std::vector<JobPtr> jobs;
};

class Worker {
 public:
  struct Owner {
    virtual ~Owner() = default;
    // Its queue named a slot. An error ends the worker as one that lied.
    virtual Result<void> on_completed(Worker& worker, std::uint32_t slot) = 0;
    // ready() or leaving() has changed.
    virtual void on_word(Worker& worker) = 0;
    // Last call; the owner drops it. `lied`: it broke the channel's rules.
    virtual void on_ended(Worker& worker, std::string reason, bool lied) = 0;
  };
  struct Identity {
    channel::WorkerId id = 0;
    std::string attempt;
    Digest record;
    std::uint32_t queue = 0;
  };

  // Sends the welcome.
  static Result<std::unique_ptr<Worker>> welcome(EventLoop& loop, Owner& owner, channel::Pool& pool,
                                                 Fd socket, Identity identity);
  ~Worker();

  const Identity& identity() const { return identity_; }
  bool ready() const { return ready_ && !leaving_; }
  bool serving() const { return ready() && !spare; }
  bool idle() const { return serving() && !batch; }
  bool leaving() const { return leaving_; }
  // The batch's slot is filled and pool.submit() was called.
  Result<void> submit(Batch next);

  std::optional<Batch> batch;
  bool spare = false;  // gets no more batches: the node may end it

 private:
  Worker(EventLoop& loop, Owner& owner, channel::Pool& pool, Fd socket, Fd eventfd,
         Identity identity);
  void on_socket();
  void on_eventfd();
  Result<void> drain();

  EventLoop& loop_;
  Owner& owner_;
  Identity identity_;
  Fd socket_;
  Fd eventfd_;
  channel::QueueProducer submit_;
  channel::QueueConsumer complete_;
  bool ready_ = false;
  bool leaving_ = false;
};

}  // namespace loam::gateway
