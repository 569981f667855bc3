// Model, the requests' half: admission, batches, answers, deadlines.
#include <algorithm>
#include <cstring>

#include "base/clock.h"
#include "base/text.h"
#include "gateway/model.h"

namespace loam::gateway {
namespace {

constexpr std::int64_t kStartWaitNs = std::chrono::nanoseconds(api::kReplicaWait).count();

std::uint32_t microseconds(std::int64_t ns) {
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(ns / 1000, 0, UINT32_MAX));
}

bool live(const ExchangePtr& exchange) { return !exchange->answered() && !exchange->gone(); }

}  // namespace

void Model::handle(const ExchangePtr& exchange) {
  queue_.unclaim(exchange.get());
  admit(exchange, steady_ns());
  pump();
}

std::vector<Model::Waiting> Model::hand_over() {
  std::vector<Waiting> waiting;
  for (JobPtr& job : queue_.remove_all())
    waiting.push_back({std::move(job->exchange), job->arrived_ns});
  for (Waiting& item : std::exchange(undecoded_, {})) waiting.push_back(std::move(item));
  return waiting;
}

void Model::take_over(const Waiting& request) {
  if (live(request.exchange)) admit(request.exchange, request.arrived_ns);
  pump();
}

bool Model::is_hopeless() const {
  return workers_.empty() && replicas_.empty() && !plan_.expected;
}

void Model::admit(const ExchangePtr& exchange, std::int64_t arrived_ns) {
  if (is_hopeless()) return answer_alone(exchange, error_response(503, kNoReplica), arrived_ns);
  if (queue_.size() + undecoded_.size() >= plan_.queue_max)
    return answer_alone(
        exchange, error_response(429, std::to_string(plan_.queue_max) + " requests wait already"),
        arrived_ns);
  if (!pool_) {
    // What another version leaves us came before.
    const auto later = std::find_if(undecoded_.begin(), undecoded_.end(), [&](const Waiting& item) {
      return item.arrived_ns > arrived_ns;
    });
    undecoded_.insert(later, {exchange, arrived_ns});
    return schedule_deadlines();
  }
  auto infer = decode_infer(exchange->request, pool_->signature(), pool_->batch_max());
  if (!infer) return answer_alone(exchange, error_response(400, infer.error().text), arrived_ns);
  auto job = std::make_unique<Job>();
  job->exchange = exchange;
  job->infer = std::move(*infer);
  job->arrived_ns = arrived_ns;
  job->deadline_ns = arrived_ns + plan_.request_timeout_ms * 1'000'000;
  queue_.push(std::move(job));
  schedule_deadlines();
}

void Model::admit_undecoded() {
  const auto waiting = std::exchange(undecoded_, {});
  for (const Waiting& item : waiting)
    if (live(item.exchange)) admit(item.exchange, item.arrived_ns);
}

void Model::vanished(const ExchangePtr& exchange) {
  queue_.unclaim(exchange.get());
  (void)queue_.remove(exchange.get());
  std::erase_if(undecoded_, [&](const Waiting& item) { return item.exchange == exchange; });
  pump();
}

void Model::pump() {
  if (pumping_ || !pool_) return;
  pumping_ = true;
  while (Worker* worker = idle_worker()) {
    const auto decision = queue_.decide(steady_ns());
    if (decision.wait_until_ns != 0) schedule(decision.wait_until_ns);
    if (!decision.close) break;
    const std::size_t before = queue_.size();
    dispatch(*worker);
    if (queue_.size() == before) break;  // no slot is free
  }
  pumping_ = false;
  rescale();
}

void Model::dispatch(Worker& worker) {
  const auto slot = pool_->take();
  if (!slot) {
    error_ = "every slot is held by replicas that died and whose attempts have not ended";
    return surroundings_.on_change();
  }
  Batch batch;
  batch.slot = *slot;
  batch.jobs = queue_.close_batch();
  batch.submitted_ns = steady_ns();
  for (const JobPtr& job : batch.jobs) {
    batch.rows += job->infer.rows;
    job->exchange->dispatched = true;
  }
  fill(batch.slot, batch.jobs);
  pool_->submit(batch.slot, batch.rows, worker.identity().id);
  const auto submitted = worker.submit(std::move(batch));
  if (submitted) return;
  drop(worker, submitted.error().text, true);
  surroundings_.on_change();
}

// The one copy on a binary tensor's way in: from where the socket's bytes lie to its rows in the
// slot.
void Model::fill(std::uint32_t slot, const std::vector<JobPtr>& jobs) {
  for (std::size_t tensor = 0; tensor < pool_->signature().inputs.size(); ++tensor) {
    std::byte* to = pool_->input(slot, tensor);
    for (const JobPtr& job : jobs) {
      const auto& from = job->infer.inputs[tensor];
      std::memcpy(to, from.data(), from.size());
      to += from.size();
    }
  }
}

Result<void> Model::on_completed(Worker& worker, std::uint32_t slot) {
  const auto answer = LOAM_TRY(pool_->complete(slot, worker.identity().id));
  LOAM_ASSERT(worker.batch &&
              worker.batch->slot == slot);  // the pool knows of one submission, and this is it
  Batch batch = std::move(*worker.batch);
  worker.batch.reset();
  const Digest record = worker.identity().record;
  if (worker.leaving()) {
    // Ends after its last answer; not inside its own callback's loop over completions.
    const auto id = worker.identity().id;
    surroundings_.loop.later([this, id] {
      for (const auto& other : workers_)
        if (other->identity().id == id) return on_ended(*other, "", false);
    });
  }
  answer_batch(std::move(batch), record, answer, steady_ns());
  pump();
  return {};
}

void Model::answer_batch(Batch batch, const Digest& record, const channel::Answer& answer,
                         std::int64_t now_ns) {
  const channel::Signature& signature = pool_->signature();
  std::vector<const std::byte*> outputs;
  for (std::size_t i = 0; i < signature.outputs.size(); ++i)
    outputs.push_back(pool_->output(batch.slot, i));
  // The worker's own word, but never more than we saw pass.
  const std::int64_t compute_ns = static_cast<std::int64_t>(std::min<std::uint64_t>(
      answer.compute_ns, static_cast<std::uint64_t>(now_ns - batch.submitted_ns)));
  const std::string raised = "the handler raised: " + printable(answer.error);
  std::vector<trace::RequestEntry> entries;
  std::vector<HttpResponse> responses;
  for (const JobPtr& job : batch.jobs) {
    if (!job->exchange->answered())  // else it is in the log already, as timed out
      entries.push_back({.id = job->exchange->id(),
                         .replica = record,
                         .status = static_cast<std::uint16_t>(answer.raised ? 500 : 200),
                         .rows = job->infer.rows,
                         .batch_rows = batch.rows,
                         .queue_us = microseconds(batch.submitted_ns - job->arrived_ns),
                         .compute_us = microseconds(compute_ns)});
    if (answer.raised || !live(job->exchange))
      responses.push_back(error_response(500, raised));
    else
      responses.push_back(
          encode_infer({plan_.name, plan_.version}, signature, job->infer, outputs));
    for (std::size_t i = 0; i < outputs.size(); ++i)
      outputs[i] += signature.outputs[i].row_bytes() * job->infer.rows;
  }
  pool_->release(batch.slot);
  surroundings_.journal.append(entries);
  for (std::size_t i = 0; i < batch.jobs.size(); ++i)
    if (live(batch.jobs[i]->exchange)) batch.jobs[i]->exchange->answer(std::move(responses[i]));
}

void Model::answer_alone(const ExchangePtr& exchange, HttpResponse response,
                         std::int64_t arrived_ns) {
  surroundings_.journal.append({{.id = exchange->id(),
                                 .replica = {},
                                 .status = static_cast<std::uint16_t>(response.status),
                                 .queue_us = microseconds(steady_ns() - arrived_ns)}});
  if (live(exchange)) exchange->answer(std::move(response));
}

void Model::refuse_all(std::string_view text) {
  for (const JobPtr& job : queue_.remove_all())
    answer_alone(job->exchange, error_response(503, text), job->arrived_ns);
  for (const Waiting& item : std::exchange(undecoded_, {}))
    answer_alone(item.exchange, error_response(503, text), item.arrived_ns);
  while (!workers_.empty()) drop(*workers_.front(), std::string(text), false);
}

void Model::schedule(std::int64_t due_ns) {
  if (timer_.number != 0 && timer_.due_ns <= due_ns) return;
  surroundings_.loop.cancel(timer_);
  timer_ = surroundings_.loop.after(Nanoseconds(std::max<std::int64_t>(due_ns - steady_ns(), 0)),
                                    [this] { on_timer(); });
}

// One timer for all: it fires at the earliest deadline, sees what is due, and is set again where
// more waits.
void Model::schedule_deadlines() {
  const bool no_worker = workers_.empty();
  if (const Job* front = queue_.front()) {
    schedule(front->deadline_ns);
    if (no_worker) schedule(std::max(front->arrived_ns, without_worker_since_ns_) + kStartWaitNs);
  }
  if (!undecoded_.empty())
    schedule(std::max(undecoded_.front().arrived_ns, without_worker_since_ns_) + kStartWaitNs);
  for (const auto& worker : workers_)
    if (worker->batch)
      for (const JobPtr& job : worker->batch->jobs)
        if (live(job->exchange)) schedule(job->deadline_ns);
}

void Model::on_timer() {
  timer_ = {};
  expire(steady_ns());
  pump();
  schedule_deadlines();
}

void Model::expire(std::int64_t now_ns) {
  const std::string late =
      "no answer within " + format_duration(std::chrono::milliseconds(plan_.request_timeout_ms));
  for (const JobPtr& job : queue_.remove_overdue(now_ns))
    answer_alone(job->exchange, error_response(504, late), job->arrived_ns);
  std::vector<std::pair<ExchangePtr, std::int64_t>> overdue;
  for (const auto& worker : workers_)
    if (worker->batch)
      for (const JobPtr& job : worker->batch->jobs)
        if (live(job->exchange) && job->deadline_ns <= now_ns)
          overdue.emplace_back(job->exchange, job->arrived_ns);
  for (const auto& [exchange, arrived_ns] : overdue)
    answer_alone(exchange, error_response(504, late), arrived_ns);
  if (!workers_.empty() || now_ns < without_worker_since_ns_ + kStartWaitNs) return;
  const std::string text = error_.empty() ? "no replica of this model is ready yet"
                                          : "no replica of this model is ready: " + error_;
  while (queue_.front() && queue_.front()->arrived_ns + kStartWaitNs <= now_ns) {
    const JobPtr job = queue_.remove(queue_.front()->exchange.get());
    answer_alone(job->exchange, error_response(503, text), job->arrived_ns);
  }
  while (!undecoded_.empty() && undecoded_.front().arrived_ns + kStartWaitNs <= now_ns) {
    const Waiting item = std::move(undecoded_.front());
    undecoded_.pop_front();
    answer_alone(item.exchange, error_response(503, text), item.arrived_ns);
  }
}

}  // namespace loam::gateway
