// `loam logs TARGET`: an attempt's kept output, byte for byte. What is followed outlives the node: its shim keeps the
// output meanwhile, and the next node is asked for what came behind the last byte that was printed.
#include <poll.h>

#include <utility>

#include "base/clock.h"
#include "base/text.h"
#include "cli/follow.h"
#include "cli/on.h"
#include "cli/verbs.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

class Logs {
 public:
  Logs(Context& context, const engines::LocalNode& node) : context_(context), console_(context.console), node_(node) {
    target_ = context.arguments.value("TARGET");
    follow_ = context.arguments.flag("follow");
    if (context.arguments.has("tail")) start_ = "&tail=" + context.arguments.value("tail");
  }

  int print() {
    for (;;) {
      const auto done = read_on();
      if (done || console_.broken()) return kExitOk;
      const bool lost = done.error().code == ErrorCode::unavailable || done.error().code == ErrorCode::corrupt;
      // A refusal of the first node that was asked is an answer; of a later one, it may still be coming up.
      if (!follow_ || !lost || (!connected_ && lost_since_ns_ == 0 && done.error().code == ErrorCode::unavailable))
        return report(context_, done.error());
      if (!await_next(done.error())) return kExitUnavailable;
    }
  }

 private:
  // One connection: prints until the answer's end, or until it breaks off (corrupt).
  Result<void> read_on() {
    connected_ = false;
    engines::Exchange exchange = LOAM_TRY(node_.open("GET", path()));
    std::string refused;
    for (bool complete = false; !complete;) {
      LOAM_CHECK(engines::await_readable(exchange.fd(), nullptr));
      std::string bytes;
      auto read = exchange.read(bytes);
      if (exchange.has_head() && exchange.head().status != 200)
        refused += bytes;
      else if (exchange.has_head())
        take(exchange, bytes);
      if (console_.broken()) return {};
      complete = LOAM_TRY(std::move(read));
    }
    if (exchange.head().status == 200) return {};
    auto body = Json::parse(refused);
    return tl::unexpected(engines::error_of({exchange.head().status, body ? std::move(*body) : Json()}));
  }

  std::string path() const {
    return "/v1/logs/" + engines::percent_encoded_path(target_) + "?stream=all" + (follow_ ? "&follow=1" : "") + start_;
  }

  void take(const engines::Exchange& exchange, const std::string& bytes) {
    if (!std::exchange(connected_, true)) begin(exchange);
    console_.raw(bytes);
    printed_to_ += bytes.size();
    start_ = "&from=" + std::to_string(printed_to_);
  }

  // Where this answer begins, and of which attempt: a later one of the same job has output of its own.
  void begin(const engines::Exchange& exchange) {
    const std::uint64_t offset = log_offset(exchange);
    if (lost_since_ns_ != 0 && offset > printed_to_)
      console_.warn(std::to_string(offset - printed_to_) + " bytes of output, written meanwhile, are no longer kept");
    printed_to_ = offset;
    if (const auto field = exchange.head().own.find("loam-target"); field != exchange.head().own.end())
      target_ = field->second;
    lost_since_ns_ = 0;
  }

  // False: no node has come back.
  bool await_next(const Error& error) {
    if (lost_since_ns_ == 0) {
      lost_since_ns_ = steady_ns();
      console_.warn("lost the node (" + error.text + "); waiting for it");
    }
    if (steady_ns() - lost_since_ns_ > kLostLimitNs) {
      console_.warn("the node did not come back; `loam logs -f " + printable(target_) + on_words(context_) + "` starts one and shows the output");
      return false;
    }
    ::poll(nullptr, 0, kRetryMs);
    return true;
  }

  Context& context_;
  Console& console_;
  const engines::LocalNode& node_;
  std::string target_;
  bool follow_ = false;
  std::string start_;             // "&tail=5", then "&from=17": where the next answer is to begin
  std::uint64_t printed_to_ = 0;  // of all output
  bool connected_ = false;
  std::int64_t lost_since_ns_ = 0;
};

int print_logs(Context& context) {
  const Arguments& arguments = context.arguments;
  if (arguments.has("tail") && !is_number(arguments.value("tail")))
    return report(context, {ErrorCode::invalid, "--tail '" + printable(arguments.value("tail")) +
                                                    "': expected a number of lines"});
  const auto node = connect_node(context);
  if (!node) return report(context, node.error());
  return Logs(context, *node).print();
}

}  // namespace

Verb logs_verb() {
  Verb verb;
  verb.name = "logs";
  verb.summary = "an attempt's output";
  verb.positionals = {
      {"TARGET", "RUN[/STEP[/ATTEMPT]]: parts left out mean the last failed, else the newest"}};
  verb.options = {{"-f,--follow", "", "go on until it ends"},
                  {"--tail", "N", "only the last N lines"}};
  verb.examples = "loam logs 17\nloam logs -f 17/train\nloam logs --tail 20 17/train/2";
  verb.run = print_logs;
  return verb;
}

}  // namespace loam::cli
