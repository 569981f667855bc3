#include "node/attempt_routes.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <charconv>
#include <optional>
#include <utility>

#include "base/log.h"
#include "base/text.h"
#include "node/log_reader.h"

namespace loam::node {
namespace {

constexpr std::size_t kReadBytes = 64 * 1024;
constexpr std::size_t kPendingBytesMax = 256 * 1024;  // more waits for the reader
constexpr std::uint64_t kTailLinesMax = 1'000'000;
constexpr std::uint32_t kFolderEvents = IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_ONLYDIR;

struct LogQuery {
  bool follow = false;
  std::optional<std::uint64_t> tail;
  std::optional<std::uint64_t> from;
};

std::optional<std::uint64_t> whole_number(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Result<LogQuery> log_query(const std::map<std::string, std::string>& query) {
  LogQuery wanted;
  for (const auto& [key, value] : query) {
    if (key == "follow" && (value == "1" || value == "0")) {
      wanted.follow = value == "1";
    } else if (key == "stream" && value == "all") {
      // The shim keeps both streams in one file, in the order in which they came.
    } else if (key == "tail") {
      wanted.tail = whole_number(value);
      if (!wanted.tail || *wanted.tail > kTailLinesMax)
        return fail(ErrorCode::invalid, "tail: expected a number of lines up to 1000000");
    } else if (key == "from") {
      wanted.from = whole_number(value);
      if (!wanted.from) return fail(ErrorCode::invalid, "from: expected a number of bytes");
    } else {
      return fail(ErrorCode::invalid, "logs: unknown query " + printable(key) + "=" +
                                          printable(value) +
                                          "; known: follow=1, tail=N, from=BYTES, stream=all");
    }
  }
  if (wanted.tail && wanted.from) return fail(ErrorCode::invalid, "logs: tail and from: expected one of them");
  return wanted;
}

}  // namespace

struct AttemptRoutes::LogStream {
  AttemptId attempt = 0;
  ResponderPtr responder;
  LogReader reader;
  bool more_may_come = false;  // follows an attempt that has not ended
  bool waits_for_reader = false;
  bool done = false;
};

AttemptRoutes::AttemptRoutes(Node& node, Runs& runs) : node_(node), runs_(runs) {}
AttemptRoutes::~AttemptRoutes() = default;

void AttemptRoutes::add_routes(Routes& routes) {
  routes.add("GET", "/v1/logs/*target",
             [this](const Request& request, const Routes::Params& params, ResponderPtr r) {
               logs(request, params.at("target"), std::move(r));
             });
  routes.add("POST", "/v1/attach/*target",
             [this](const Request& request, const Routes::Params& params, ResponderPtr r) {
               attach(request, params.at("target"), std::move(r));
             });
  routes.add("POST", "/v1/join/*target",
             [this](const Request& request, const Routes::Params& params, ResponderPtr r) {
               join(request, params.at("target"), std::move(r));
             });
}

void AttemptRoutes::attach(const Request& request, const std::string& target,
                           ResponderPtr responder) {
  if (request.upgrade != "loam-attach")
    return responder->reply_error(
        {ErrorCode::invalid, "attach: expected the header 'Upgrade: loam-attach'"});
  if (wait_to_attach(request, target, responder)) return;
  const auto attempt = runs_.resolve_attempt(request.caller, target);
  if (!attempt) return responder->reply_error(attempt.error());
  const auto view = node_.supervisor.find(*attempt);
  if (!view || view->state == "ended")
    return responder->reply_error(
        {ErrorCode::unavailable,
         printable(target) + " has ended; its output: loam logs " + printable(target)});
  responder->upgrade("loam-attach", [this, id = *attempt](Fd stream) {
    // Ended between the look and the 101: the client sees the connection's end.
    if (auto attached = node_.supervisor.attach(id, std::move(stream)); !attached)
      log_warning("attach to attempt " + std::to_string(id) + ": " + attached.error().text);
  });
}

// The answer to a job that is still to start comes when it starts: nobody has to ask again and
// again.
bool AttemptRoutes::wait_to_attach(const Request& request, const std::string& target,
                                   const ResponderPtr& responder) {
  const auto wait = std::make_shared<std::function<void()>>();
  if (!runs_.await_attempt(request.caller, target, wait)) return false;
  attach_waits_.insert(wait);
  const std::weak_ptr weak = wait;  // it must not hold itself
  *wait = [this, weak, request, target, responder] {
    const auto ended = weak.lock();
    attach_waits_.erase(ended);
    attach(request, target, responder);
  };
  responder->on_closed([this, weak] { attach_waits_.erase(weak.lock()); });
  return true;
}

void AttemptRoutes::logs(const Request& request, const std::string& target,
                         ResponderPtr responder) {
  const auto wanted = log_query(request.query);
  if (!wanted) return responder->reply_error(wanted.error());
  std::string whole_target;
  const auto attempt = runs_.resolve_attempt(request.caller, target, &whole_target);
  if (!attempt) return responder->reply_error(attempt.error());
  const auto view = node_.supervisor.find(*attempt);
  if (!view)
    return responder->reply_error({ErrorCode::not_found, "no attempt " + printable(target)});
  const std::string folder = node_.supervisor.folder_of(*attempt) + "/output";
  // A lane's task that said nothing has no folder, and is not told from one whose folder is gone.
  if (view->state == "ended" && !view->in_lane() && ::access(folder.c_str(), F_OK) != 0)
    return responder->reply_error(
        {ErrorCode::not_found,
         "the output of " + printable(target) + " is no longer kept (keep: attempts)"});
  auto stream = std::make_shared<LogStream>(LogStream{
      .attempt = *attempt, .responder = std::move(responder), .reader = LogReader(folder)});
  stream->more_may_come = wanted->follow && view->state != "ended";
  auto sought = wanted->tail ? stream->reader.seek_tail(*wanted->tail) : stream->reader.seek(wanted->from.value_or(0));
  if (!sought) return stream->responder->reply_error(sought.error());
  // For who loses the connection and goes on where it was.
  stream->responder->header("loam-target", whole_target);
  stream->responder->header("loam-offset", std::to_string(stream->reader.position()));
  stream->responder->start_stream("application/octet-stream");
  if (stream->more_may_come) follow(stream);
  pump(stream);
}

void AttemptRoutes::follow(const LogStreamPtr& stream) {
  if (!inotify_) {
    inotify_ = Fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (inotify_) watch_ = node_.loop.watch_readable(inotify_.get(), [this] { folder_changed(); });
  }
  streams_[stream->attempt].insert(stream);
  // The same watch for a second reader of the same folder. Before the attempt's folder is there
  // this fails; on_running() comes back to it.
  const std::string folder = node_.supervisor.folder_of(stream->attempt) + "/output";
  if (const int watch = ::inotify_add_watch(inotify_.get(), folder.c_str(), kFolderEvents);
      watch >= 0)
    watched_[watch] = stream->attempt;
  stream->responder->on_closed([this, weak = std::weak_ptr(stream)] {
    if (const auto gone = weak.lock()) forget(gone);
  });
}

void AttemptRoutes::forget(const LogStreamPtr& stream) {
  stream->done = true;
  const auto found = streams_.find(stream->attempt);
  if (found == streams_.end()) return;
  found->second.erase(stream);
  if (!found->second.empty()) return;
  streams_.erase(found);
  for (auto watch = watched_.begin(); watch != watched_.end();) {
    if (watch->second != stream->attempt) {
      ++watch;
      continue;
    }
    ::inotify_rm_watch(inotify_.get(), watch->first);
    watch = watched_.erase(watch);
  }
}

// Sends until the file's end or until the reader has enough to take.
void AttemptRoutes::pump(const LogStreamPtr& stream) {
  while (!stream->done && !stream->waits_for_reader) {
    if (stream->responder->pending_bytes() > kPendingBytesMax) {
      stream->waits_for_reader = true;
      stream->responder->on_drained([this, stream] {
        stream->waits_for_reader = false;
        pump(stream);
      });
      return;
    }
    const auto bytes = stream->reader.read(kReadBytes);
    if (bytes && !bytes->empty()) {
      stream->responder->write(*bytes);
      continue;
    }
    if (bytes && stream->more_may_come) return;
    if (!bytes)
      log_warning("logs of attempt " + std::to_string(stream->attempt) + ": " + bytes.error().text);
    stream->responder->end_stream();
    forget(stream);
  }
}

void AttemptRoutes::pump_attempt(AttemptId attempt) {
  const auto found = streams_.find(attempt);
  if (found == streams_.end()) return;
  const auto streams = found->second;  // pumping may end some
  for (const LogStreamPtr& stream : streams) pump(stream);
}

void AttemptRoutes::folder_changed() {
  alignas(inotify_event) char buffer[16 * 1024];
  std::set<AttemptId> changed;
  for (;;) {
    const ssize_t count = ::read(inotify_.get(), buffer, sizeof buffer);
    if (count <= 0) break;
    for (ssize_t at = 0; at < count;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
      at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
      // Lost events: every followed folder may have changed.
      if ((event->mask & IN_Q_OVERFLOW) != 0)
        for (const auto& [attempt, streams] : streams_) changed.insert(attempt);
      if (const auto found = watched_.find(event->wd); found != watched_.end())
        changed.insert(found->second);
    }
  }
  for (const AttemptId attempt : changed) pump_attempt(attempt);
}

void AttemptRoutes::on_running(AttemptId attempt) {
  const auto found = streams_.find(attempt);
  if (found == streams_.end()) return;
  const auto streams = found->second;
  for (const LogStreamPtr& stream : streams) {
    follow(stream);
    pump(stream);
  }
}

void AttemptRoutes::on_exit(AttemptId attempt) {
  const auto found = streams_.find(attempt);
  if (found == streams_.end()) return;
  for (const LogStreamPtr& stream : found->second) stream->more_may_come = false;
  pump_attempt(attempt);
}

}  // namespace loam::node
