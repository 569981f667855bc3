#include "gateway/model.h"

#include <algorithm>

#include "base/clock.h"
#include "base/log.h"

namespace loam::gateway {
namespace {

Digest record_digest(const std::string& hex) {
  const auto digest = Digest::parse(hex);
  return digest ? *digest : Digest{};
}

}  // namespace

Model::Model(Surroundings surroundings, const api::ModelPlan& plan)
    : surroundings_(std::move(surroundings)), without_worker_since_ns_(steady_ns()) {
  update(plan);
}

Model::~Model() {
  refuse_all("the model is no longer served here");
  surroundings_.loop.cancel(timer_);
}

std::size_t Model::ready_replicas() const {
  return static_cast<std::size_t>(std::count_if(
      workers_.begin(), workers_.end(), [](const auto& worker) { return worker->ready(); }));
}

std::vector<std::string> Model::ready_attempts() const {
  std::vector<std::string> names;
  for (const auto& worker : workers_)
    if (worker->ready()) names.push_back(worker->identity().attempt);
  return names;
}

void Model::update(const api::ModelPlan& plan) {
  plan_ = plan;
  set_scale();
  queue_.configure(pool_ ? pool_->batch_max() : plan.batch_max, plan.batch_delay_max_us * 1000);
  std::set<std::string> listed;
  for (const api::ReplicaPlan& replica : plan.replicas) {
    listed.insert(replica.attempt);
    replicas_[replica.attempt].record = record_digest(replica.record);
    if (!replicas_[replica.attempt].door) open_door(replica.attempt);
  }
  std::vector<std::string> gone;
  for (const auto& [attempt, replica] : replicas_)
    if (!listed.contains(attempt)) gone.push_back(attempt);
  for (const std::string& attempt : gone) forget(attempt);
  if (is_hopeless()) refuse_all(kNoReplica);
  pump();
}

void Model::open_door(const std::string& attempt) {
  Replica& replica = replicas_[attempt];
  if (replica.barred) return;
  auto door = WorkerDoor::open(surroundings_.loop, surroundings_.replicas_folder + "/" + attempt,
                               [this, attempt](Fd socket, const channel::Hello& hello) {
                                 on_hello(attempt, std::move(socket), hello);
                               });
  if (door) {
    replica.door = std::move(*door);
    return;
  }
  error_ = "replica " + attempt + ": " + door.error().text;
  log_error(error_);
}

// The node has seen the attempt's last process end: nothing writes into its slots any more.
void Model::forget(const std::string& attempt) {
  if (Worker* worker = worker_of(attempt)) drop(*worker, "the replica was ended", false);
  const auto found = replicas_.find(attempt);
  for (const channel::WorkerId id : found->second.buried)
    if (pool_) pool_->exhume(id);
  for (const std::uint32_t queue : found->second.queues) queues_used_.erase(queue);
  replicas_.erase(found);
}

void Model::on_hello(const std::string& attempt, Fd socket, const channel::Hello& hello) {
  const auto refuse = [&](const std::string& text) {
    error_ = "replica " + attempt + ": " + text;
    log_warning("worker of " + error_ + ": refused");
    channel::send_refusal(socket.get(), text);
    surroundings_.on_change();
  };
  const auto found = replicas_.find(attempt);
  if (found == replicas_.end() || found->second.barred) return refuse("this attempt may not serve");
  // The newest connection counts: an older one may be held open by a fork of a worker that has
  // died.
  if (Worker* older = worker_of(attempt)) drop(*older, "the worker connected again", false);
  if (const auto prepared = prepare_pool(hello.signature); !prepared)
    return refuse(prepared.error().text);
  const std::uint32_t queue = free_queue();
  if (queue == channel::kQueuePairs) return refuse("no queue is free; its attempt must end first");
  Worker::Identity identity = {
      .id = next_worker_++, .attempt = attempt, .record = found->second.record, .queue = queue};
  auto worker =
      Worker::welcome(surroundings_.loop, *this, *pool_, std::move(socket), std::move(identity));
  if (!worker) return log_error("worker of replica " + attempt + ": " + worker.error().text);
  queues_used_.insert(queue);
  found->second.queues.push_back(queue);
  workers_.push_back(std::move(*worker));
  admit_undecoded();
  pump();
}

// A new pool whenever nobody is connected: so a dead worker's slots and queues are simply left
// behind.
Result<void> Model::prepare_pool(const channel::Signature& signature) {
  if (!workers_.empty()) {
    if (pool_->signature() == signature) return {};
    conflict_ = true;
    return fail(ErrorCode::invalid, "its signature is not that of the model's other replicas");
  }
  auto pool = channel::Pool::create(signature, plan_.batch_max);
  if (!pool) return tl::unexpected(pool.error());
  if (pool_ && (pool_->signature() != signature || pool_->batch_max() != plan_.batch_max)) {
    // What waits was decoded for the old signature.
    for (JobPtr& job : queue_.remove_all())
      undecoded_.push_back({std::move(job->exchange), job->arrived_ns});
  }
  pool_ = std::make_unique<channel::Pool>(std::move(*pool));
  conflict_ = false;
  queues_used_.clear();
  for (auto& [attempt, replica] : replicas_) {
    replica.buried.clear();
    replica.queues.clear();
  }
  queue_.configure(plan_.batch_max, plan_.batch_delay_max_us * 1000);
  return {};
}

std::uint32_t Model::free_queue() const {
  std::uint32_t queue = 0;
  while (queue < channel::kQueuePairs && queues_used_.contains(queue)) ++queue;
  return queue;
}

Worker* Model::worker_of(const std::string& attempt) {
  for (const auto& worker : workers_)
    if (worker->identity().attempt == attempt) return worker.get();
  return nullptr;
}

Worker* Model::idle_worker() {
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    Worker* worker = workers_[(next_turn_ + i) % workers_.size()].get();
    if (!worker->idle()) continue;
    next_turn_ = (next_turn_ + i + 1) % workers_.size();
    return worker;
  }
  return nullptr;
}

void Model::on_word(Worker& worker) {
  if (worker.leaving() && !worker.batch) return on_ended(worker, "", false);
  if (worker.ready()) {
    error_.clear();
    log_info("model " + plan_.name + "@" + plan_.version + ": replica " +
             worker.identity().attempt + " is ready");
  }
  surroundings_.on_change();
  pump();
}

void Model::on_ended(Worker& worker, std::string reason, bool lied) {
  drop(worker, reason, lied);
  surroundings_.on_change();
  pump();
}

void Model::drop(Worker& worker, const std::string& reason, bool lied) {
  const Worker::Identity identity = worker.identity();
  const auto found = std::find_if(workers_.begin(), workers_.end(),
                                  [&](const auto& other) { return other.get() == &worker; });
  if (found == workers_.end()) return;
  // shared_ptr because std::function wants to be copyable; it is called from inside the worker.
  const std::shared_ptr<Worker> dying = std::move(*found);
  workers_.erase(found);
  surroundings_.loop.later([dying] {});
  if (!reason.empty()) {
    error_ = "replica " + identity.attempt + ": " + reason;
    log_warning("model " + plan_.name + "@" + plan_.version + ": " + error_);
  }
  if (const auto replica = replicas_.find(identity.attempt); replica != replicas_.end()) {
    replica->second.buried.push_back(identity.id);
    replica->second.barred = replica->second.barred || lied;
    if (lied) replica->second.door.reset();
  }
  pool_->bury(identity.id);
  if (workers_.empty()) {
    without_worker_since_ns_ = steady_ns();
    schedule_deadlines();
  }
  if (!dying->batch) return;
  Batch batch = std::move(*dying->batch);
  dying->batch.reset();
  const std::string text = "the worker that held this request ended: " + reason;
  std::vector<trace::RequestEntry> entries;
  for (const JobPtr& job : batch.jobs)
    if (!job->exchange->answered())
      entries.push_back({.id = job->exchange->id(),
                         .replica = identity.record,
                         .status = 503,
                         .rows = job->infer.rows,
                         .batch_rows = batch.rows});
  surroundings_.journal.append(entries);
  for (const JobPtr& job : batch.jobs)
    if (!job->exchange->answered() && !job->exchange->gone())
      job->exchange->answer(error_response(503, text));
}

}  // namespace loam::gateway
