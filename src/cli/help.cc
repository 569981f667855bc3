// `loam help`, `loam version`.
#include "cli/parse.h"
#include "cli/verbs.h"

namespace loam::cli {
namespace {

int print_help(Context& context) {
  const auto path = context.arguments.list("VERB");
  if (path.empty()) {
    context.console.print_text(overview(all_verbs()));
    return kExitOk;
  }
  const Found found = find_verb(all_verbs(), path);
  if (found.verb == nullptr) {
    // The parser says what is wrong and what may have been meant.
    context.console.warn(parse_arguments(all_verbs(), path).text);
    return kExitUsage;
  }
  context.console.print_text(help_of(*found.verb, found.name));
  return kExitOk;
}

int print_version(Context& context) {
  if (context.json())
    context.console.print_text(Json::object({{"version", LOAM_VERSION}}).pretty() + "\n");
  else
    context.console.print("loam " LOAM_VERSION);
  return kExitOk;
}

}  // namespace

Verb help_verb() {
  Verb verb;
  verb.name = "help";
  verb.here_only = true;
  verb.summary = "options and examples of a verb";
  verb.positionals = {{"VERB", "such as run, or store gc", false, true}};
  verb.examples = "loam help run\nloam help store gc";
  verb.run = print_help;
  return verb;
}

Verb version_verb() {
  Verb verb;
  verb.name = "version";
  verb.here_only = true;
  verb.summary = "this program's version";
  verb.options = {json_option()};
  verb.examples = "loam version";
  verb.run = print_version;
  return verb;
}

}  // namespace loam::cli
