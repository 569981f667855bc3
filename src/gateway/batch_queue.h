// Which waiting requests make the next batch, and when it closes. Pure: no clock, no I/O.
//
// A row is taken when its body is whole, or at the head of a request whose body is on its way (a
// claim). A batch that is closing waits for claims at most delay_max; a full one never waits, nor
// does one that nothing is on its way for. A claim that was waited for in vain is void, so that a
// slow client delays one batch at most, and by delay_max at most.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <vector>

#include "gateway/exchange.h"
#include "gateway/infer.h"

namespace loam::gateway {

struct Job {
  ExchangePtr exchange;
  InferRequest infer;
  std::int64_t arrived_ns = 0;
  std::int64_t deadline_ns = 0;
};
using JobPtr = std::unique_ptr<Job>;

class BatchQueue {
 public:
  void configure(std::uint32_t rows_max, std::int64_t delay_max_ns) {
    rows_max_ = rows_max;
    delay_max_ns_ = delay_max_ns;
  }

  void claim(const Exchange* exchange) { claims_.insert(exchange); }
  void unclaim(const Exchange* exchange) { claims_.erase(exchange); }

  // Behind those that arrived before it.
  void push(JobPtr job);
  std::size_t size() const { return jobs_.size(); }
  // Null where it is not here.
  JobPtr remove(const Exchange* exchange);
  std::vector<JobPtr> remove_all();
  std::vector<JobPtr> remove_overdue(std::int64_t now_ns);
  const Job* front() const { return jobs_.empty() ? nullptr : jobs_.front().get(); }

  struct Decision {
    bool close = false;
    std::int64_t wait_until_ns = 0;  // where not: ask again then (0: when something changes)
  };
  // Asked while a worker is idle.
  Decision decide(std::int64_t now_ns);
  // The oldest requests that fit; requests are never split nor overtaken.
  std::vector<JobPtr> close_batch();

 private:
  std::size_t fitting() const;  // how many of the oldest fit

  std::deque<JobPtr> jobs_;
  std::set<const Exchange*> claims_;
  std::uint32_t rows_max_ = 1;
  std::int64_t delay_max_ns_ = 0;
  std::int64_t wait_until_ns_ = 0;
};

}  // namespace loam::gateway
