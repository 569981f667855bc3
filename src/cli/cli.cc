#include "cli/cli.h"

#include <signal.h>

#include "cli/parse.h"
#include "cli/verbs.h"

namespace loam::cli {

// A reader of our output that has gone, where nothing else went wrong: as if SIGPIPE had ended us.
static int final_status(const Console& console, int status) {
  return console.broken() && status == kExitOk ? kExitSignal + SIGPIPE : status;
}

int cli_main(int argc, char** argv, NodeCode node) {
  const std::vector<std::string> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  // The daemon reads its own arguments.
  if (words.size() >= 2 && words[0] == "node" && words[1] == "run" &&
      (words.size() == 2 || (words[2] != "-h" && words[2] != "--help")))
    return node.main({words.begin() + 1, words.end()});
  ::signal(SIGPIPE,
           SIG_IGN);  // writes fail instead, so that terminals are restored and jobs cancelled
  Console console;
  Parsed parsed = parse_arguments(all_verbs(), words);
  if (parsed.verb == nullptr) {
    parsed.status == kExitOk ? console.print_text(parsed.text) : console.warn(parsed.text);
    return final_status(console, parsed.status);
  }
  Context context{console, std::move(parsed.arguments), std::move(node)};
  return final_status(console, parsed.verb->run(context));
}

}  // namespace loam::cli
