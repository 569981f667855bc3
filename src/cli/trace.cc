// `loam trace X`: what an answer, a model or a run came from, down to the kernel.
#include "cli/trace_text.h"
#include "cli/verbs.h"

namespace loam::cli {
namespace {

int print_trace(Context& context) {
  const Answer answer = ask(
      context, "GET", "/v1/trace/" + engines::percent_encoded_path(context.arguments.value("X")));
  if (answer.status != kExitOk) return answer.status;
  context.console.print_text(context.json() ? answer.body.pretty() + "\n"
                                            : format_trace(trace_lines(answer.body)));
  return kExitOk;
}

}  // namespace

Verb trace_verb() {
  Verb verb;
  verb.name = "trace";
  verb.summary = "what an answer, a model or a run came from, down to the kernel";
  verb.positionals = {{"X", "a request id (req-…), MODEL[@N] or RUN[/STEP]"}};
  verb.options = {json_option()};
  verb.examples =
      "loam trace req-01JD3V5ZQK8W4T2N6M0XBRGYEH     the header loam-request-id of an answer\n"
      "loam trace digits@3\n"
      "loam trace 17/train --json                    the records themselves";
  verb.run = print_trace;
  return verb;
}

}  // namespace loam::cli
