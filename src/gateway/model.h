// One model version that is served: its pool, its workers, the requests that wait, the batches.
//
//   HTTP ─▶ handle: decode, admit ─▶ BatchQueue ─▶ pump: idle worker? close a batch, fill a slot,
//   submit
//                                                    on_completed: copy out, log, answer ─▶ pump
//
// The replica is chosen when the batch closes. Requests wait while every worker is busy, and, up to
// api::kReplicaWait, while one is still to come: the plan lists a replica, or says that one is expected.
// Threads: the loop's. Trust: see worker.h and infer.h.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "api/endpoint.h"
#include "channel/pool.h"
#include "gateway/batch_queue.h"
#include "gateway/event_loop.h"
#include "gateway/request_journal.h"
#include "gateway/scaling.h"
#include "gateway/worker.h"
#include "gateway/worker_door.h"

namespace loam::gateway {

inline constexpr std::string_view kNoReplica =
    "no replica of this model is running, and none is about to start";

class Model : private Worker::Owner {
 public:
  struct Surroundings {
    EventLoop& loop;
    RequestJournal& journal;
    std::string replicas_folder;
    std::function<void()> on_change;  // what the status says of it may differ
  };

  Model(Surroundings surroundings, const api::ModelPlan& plan);
  ~Model() override;

  const std::string& name() const { return plan_.name; }
  const std::string& version() const { return plan_.version; }
  std::size_t ready_replicas() const;
  std::vector<std::string> ready_attempts() const;  // their names
  // How many replicas the load asks for, where their number may change; those among the ready ones
  // that it does without.
  std::optional<std::uint32_t> wanted_replicas() const;
  std::vector<std::string> spare_attempts() const;
  const std::string& error() const { return error_; }
  // Nothing is there to answer, and nothing is to come.
  bool is_hopeless() const;
  // A replica was refused because those that are connected have another signature.
  bool conflict() const { return conflict_; }
  // Null until a worker has said what the model takes.
  const channel::Signature* signature() const { return pool_ ? &pool_->signature() : nullptr; }

  void update(const api::ModelPlan& plan);
  void arriving(const ExchangePtr& exchange) { queue_.claim(exchange.get()); }
  void handle(const ExchangePtr& exchange);
  void vanished(const ExchangePtr& exchange);
  // Every request that is here gets 503 with the text.
  void refuse_all(std::string_view text);

  struct Waiting {
    ExchangePtr exchange;
    std::int64_t arrived_ns = 0;
  };
  // The requests that no worker has, for another version of the model to take over.
  std::vector<Waiting> hand_over();
  void take_over(const Waiting& request);

 private:
  // What the plan lists, and what of the pool an attempt's dead workers still hold.
  struct Replica {
    Digest record;
    std::unique_ptr<WorkerDoor> door;
    std::vector<channel::WorkerId> buried;
    std::vector<std::uint32_t> queues;
    bool barred = false;  // its worker lied
  };

  void open_door(const std::string& attempt);
  void forget(const std::string& attempt);
  void on_hello(const std::string& attempt, Fd socket, const channel::Hello& hello);
  Result<void> prepare_pool(const channel::Signature& signature);
  std::uint32_t free_queue() const;
  Worker* worker_of(const std::string& attempt);
  Worker* idle_worker();

  void admit(const ExchangePtr& exchange, std::int64_t arrived_ns);
  void admit_undecoded();
  void pump();
  void set_scale();
  void rescale();
  bool let_go_of_one();
  bool take_back_one();
  Scaling::Load load() const;
  void dispatch(Worker& worker);
  void fill(std::uint32_t slot, const std::vector<JobPtr>& jobs);
  void answer_batch(Batch batch, const Digest& record, const channel::Answer& answer,
                    std::int64_t now_ns);
  void answer_alone(const ExchangePtr& exchange, HttpResponse response, std::int64_t arrived_ns);
  void schedule(std::int64_t due_ns);
  void schedule_deadlines();
  void on_timer();
  void expire(std::int64_t now_ns);
  void drop(Worker& worker, const std::string& reason, bool lied);

  Result<void> on_completed(Worker& worker, std::uint32_t slot) override;
  void on_word(Worker& worker) override;
  void on_ended(Worker& worker, std::string reason, bool lied) override;

  Surroundings surroundings_;
  api::ModelPlan plan_;
  std::map<std::string, Replica> replicas_;
  std::unique_ptr<channel::Pool> pool_;
  std::set<std::uint32_t> queues_used_;
  std::vector<std::unique_ptr<Worker>> workers_;
  BatchQueue queue_;
  std::deque<Waiting> undecoded_;  // came before any worker had said what the model takes
  std::optional<Scaling> scaling_;  // where the plan leaves their number to the load
  EventLoop::TimerId timer_;
  channel::WorkerId next_worker_ = 1;
  std::size_t next_turn_ = 0;  // round robin over idle workers
  std::int64_t without_worker_since_ns_ = 0;
  std::string error_;
  bool conflict_ = false;
  bool pumping_ = false;
};

}  // namespace loam::gateway
