// `loam logs TARGET`: an attempt's kept output, byte for byte.
#include "base/text.h"
#include "cli/verbs.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

int print_logs(Context& context) {
  const Arguments& arguments = context.arguments;
  std::string query = "?stream=all";
  if (arguments.flag("follow")) query += "&follow=1";
  if (arguments.has("tail")) {
    if (!is_number(arguments.value("tail")))
      return report(context, {ErrorCode::invalid, "--tail '" + printable(arguments.value("tail")) +
                                                      "': expected a number of lines"});
    query += "&tail=" + arguments.value("tail");
  }
  const auto node = connect_node(context);
  if (!node) return report(context, node.error());
  const std::string path =
      "/v1/logs/" + engines::percent_encoded_path(arguments.value("TARGET")) + query;
  const auto done = node->stream("GET", path, {}, [&](std::string_view bytes) {
    context.console.raw(bytes);
    return !context.console.broken();
  });
  return done ? kExitOk : report(context, done.error());
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
