// loam: the command line, the node's daemon, and the node's helpers that run with a user's own
// rights.
#include <string_view>

#include "cli/cli.h"
#include "node/node_main.h"
#include "node/user_helper.h"

int main(int argc, char** argv) {
  if (argc > 1 && loam::node::is_user_helper(argv[1]))
    return loam::node::user_helper_main(argc, argv);
  return loam::cli::cli_main(argc, argv, loam::node::node_main);
}
