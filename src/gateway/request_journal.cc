#include "gateway/request_journal.h"

#include "base/clock.h"
#include "base/log.h"

namespace loam::gateway {
namespace {

constexpr std::chrono::seconds kSyncDelay{1};

}  // namespace

RequestJournal::RequestJournal(EventLoop& loop, trace::RequestLogWriter writer)
    : loop_(loop), writer_(std::move(writer)) {}

RequestJournal::~RequestJournal() {
  loop_.cancel(sync_timer_);
  report(writer_.sync());
}

trace::RequestId RequestJournal::next_id() { return ids_.next(wall_ms()); }

void RequestJournal::append(const std::vector<trace::RequestEntry>& entries) {
  report(writer_.append(entries));
  if (sync_timer_.number == 0) sync_timer_ = loop_.after(kSyncDelay, [this] { sync(); });
}

void RequestJournal::sync() {
  sync_timer_ = {};
  report(writer_.sync());
}

void RequestJournal::report(const Result<void>& outcome) {
  if (!outcome && !failing_) log_error("request log: " + outcome.error().text);
  if (outcome && failing_) log_info("request log: writing again");
  failing_ = !outcome;
}

}  // namespace loam::gateway
