#include "node/run_events.h"

namespace loam::node {
namespace {

constexpr int kRowsAtOnce = 200;
constexpr std::int64_t kTrimEvery = 500;

}  // namespace

std::string sse_text(std::string_view kind, const Json& data) {
  return "event: " + std::string(kind) + "\ndata: " + data.dump() + "\n\n";
}

void RunEvents::add(std::int64_t run, const std::string& kind, const Json& data) {
  const std::int64_t seq = database_.insert("INSERT INTO run_events(run, kind, data) VALUES(?,?,?)",
                                            {run, kind, data.dump()});
  if (seq % kTrimEvery == 0)
    database_.write(
        "DELETE FROM run_events WHERE run=? AND seq <= (SELECT seq FROM run_events WHERE run=? "
        "ORDER BY seq DESC LIMIT 1 OFFSET ?)",
        {run, run, kEventsKeptMax});
  database_.after_commit([this, run] { pump_run(run); });
}

void RunEvents::progress(std::int64_t run, const std::string& phase, const Json& data) {
  progress_[run][phase] = data;
  for (const auto& follower : followers_)
    if (follower->run == run && follower->begun && !follower->gone &&
        follower->responder->pending_bytes() < kFollowerPendingBytesMax)
      follower->responder->write(sse_text("env", data));
}

void RunEvents::follow(std::int64_t run, ResponderPtr responder, bool settled) {
  auto follower = std::make_shared<Follower>();
  follower->run = run;
  follower->responder = std::move(responder);
  follower->settled = settled;
  follower->responder->start_stream("text/event-stream");
  const std::weak_ptr<Follower> weak = follower;
  follower->responder->on_closed([weak] {
    if (const auto gone = weak.lock()) gone->gone = true;
  });
  followers_.push_back(follower);
  // Rows of this very turn are not yet durable: after its commit.
  database_.after_commit([this, follower, run] {
    follower->begun = true;
    pump(follower);
    if (const auto found = progress_.find(run); found != progress_.end() && !follower->gone)
      for (const auto& [phase, data] : found->second)
        follower->responder->write(sse_text("env", data));
  });
}

void RunEvents::settle(std::int64_t run) {
  forget_progress(run);
  for (const auto& follower : followers_)
    if (follower->run == run) follower->settled = true;
  database_.after_commit([this, run] { pump_run(run); });
}

void RunEvents::pump_run(std::int64_t run) {
  followers_.remove_if([](const auto& follower) { return follower->gone; });
  const auto copy = followers_;
  for (const auto& follower : copy)
    if (follower->run == run && follower->begun) pump(follower);
}

void RunEvents::pump(const std::shared_ptr<Follower>& follower) {
  while (!follower->gone && !follower->waiting) {
    if (follower->responder->pending_bytes() > kFollowerPendingBytesMax) {
      follower->waiting = true;
      follower->responder->on_drained([this, follower] {
        follower->waiting = false;
        pump(follower);
      });
      return;
    }
    const auto rows = database_.query(
        "SELECT seq, kind, data FROM run_events WHERE run=? AND seq>? ORDER BY seq LIMIT ?",
        {follower->run, follower->sent, std::int64_t{kRowsAtOnce}});
    std::string text;
    for (const Row& row : rows) {
      text += "event: " + row.text(1) + "\ndata: " + row.text(2) + "\n\n";
      follower->sent = row.integer(0);
    }
    if (!text.empty()) follower->responder->write(text);
    if (rows.size() < kRowsAtOnce) break;
  }
  if (follower->settled && !follower->gone && !follower->waiting) {
    follower->gone = true;
    follower->responder->end_stream();
  }
}

void RunEvents::remove(std::int64_t run) {
  progress_.erase(run);
  database_.write("DELETE FROM run_events WHERE run=?", {run});
}

std::vector<Json> RunEvents::all(std::int64_t run) {
  std::vector<Json> events;
  for (const Row& row :
       database_.query("SELECT kind, data FROM run_events WHERE run=? ORDER BY seq", {run}))
    events.push_back(Json::object({{"kind", row.text(0)}, {"data", row.json(1)}}));
  return events;
}

}  // namespace loam::node
