// `loam lock`: resolves the project's environments and writes loam.lock, without running anything.
#include "base/text.h"
#include "cli/report.h"
#include "cli/submission.h"
#include "cli/verbs.h"
#include "engines/sse.h"

namespace loam::cli {
namespace {

// What the stream has said so far.
struct Outcome {
  engines::SseParser parser;
  std::optional<Error> error;
  bool written = false;
};

void take(Outcome& outcome, Report& report, const engines::Event& event) {
  report.tell(event);
  if (event.kind == "lock") outcome.written = true;
  const bool failed = event.kind == "error" || event.data["state"].as_string() == "failed";
  if (!failed || outcome.error) return;
  // An env's failure has been told; another error has not.
  const Json& error = event.data["error"];
  outcome.error = {ErrorCode::io, event.kind == "env"
                                      ? ""
                                      : printable(error.is_object() ? error["text"].as_string()
                                                                    : error.as_string())};
}

int lock_project(Context& context) {
  const auto file =
      read_project_file(context.console, context.arguments.value("file", "loam.yaml"));
  if (!file) return kExitUsage;
  auto body = submission("lock", &*file);
  if (!body) return report(context, body.error());
  body->set("update", context.arguments.flag("update"));
  const auto node = connect_node(context);
  if (!node) return report(context, node.error());
  Report lines(context.console, 0, false);
  Outcome outcome;
  const auto done = node->stream("POST", "/v1/lock", *body, [&](std::string_view bytes) {
    auto events = outcome.parser.add(bytes);
    if (!events) outcome.error = events.error();
    if (events)
      for (const auto& event : *events) take(outcome, lines, event);
    return events.has_value();
  });
  context.console.clear_progress();
  if (!done) return report(context, done.error());
  if (outcome.error && !outcome.error->text.empty()) context.console.warn(outcome.error->text);
  if (outcome.error) return kExitFailure;
  if (!outcome.written) context.console.print("loam.lock is up to date");
  return kExitOk;
}

}  // namespace

Verb lock_verb() {
  Verb verb;
  verb.name = "lock";
  verb.summary = "write loam.lock: exactly which packages the environments hold";
  verb.options = {{"--update", "", "resolve anew, to the newest that loam.yaml allows"},
                  {"-f,--file", "FILE", "the project's file (loam.yaml)"}};
  verb.examples = "loam lock\nloam lock --update";
  verb.run = lock_project;
  return verb;
}

}  // namespace loam::cli
