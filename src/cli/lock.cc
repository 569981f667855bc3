// `loam lock`: resolves the project's environments and writes loam.lock, without running anything.
#include "base/text.h"
#include "cli/box_project.h"
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
  bool done = false;
};

void take(Outcome& outcome, Report& report, const engines::Event& event) {
  report.tell(event);
  if (event.kind == "lock") outcome.written = true;
  if (event.kind == "error" && !outcome.error)
    outcome.error = Error{ErrorCode::io, printable(event.data["text"].as_string())};
  outcome.done = outcome.done || event.kind == "done";
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
  auto delivery = deliver(context, *body, &*file);
  if (!delivery) return report(context, delivery.error());
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
  if (outcome.error) return report(context, *outcome.error);
  if (!outcome.done)
    return report(context, {ErrorCode::corrupt, "the node ended the work without a result"});
  delivery->reset();
  bring_lock_back(context, file->folder);
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
