// loam: the command line, the node's daemon, its gate to the network, its helpers that run with a user's own
// rights, and what stands on a box for a client that came over ssh.
#include <string_view>

#include "boxes/bridge.h"
#include "boxes/receive.h"
#include "cli/cli.h"
#include "node/accounts.h"
#include "node/gate_main.h"
#include "node/gpu_helper_main.h"
#include "node/node_main.h"
#include "node/user_helper.h"

int main(int argc, char** argv) {
  if (argc > 1 && loam::node::is_user_helper(argv[1]))
    return loam::node::user_helper_main(argc, argv);
  if (argc == 2 && argv[1] == loam::boxes::kBridgeWord) return loam::boxes::bridge_main();
  if (argc == 2 && argv[1] == loam::boxes::kReceiveWord) return loam::boxes::receive_main();
  if (argc == 2 && argv[1] == std::string_view(loam::node::kGateWord))
    return loam::node::gate_main();
  if (argc == 3 && argv[1] == std::string_view(loam::node::kGpusWord))
    return loam::node::gpu_helper_main(argv[2]);
  return loam::cli::cli_main(argc, argv,
                             {.main = loam::node::node_main, .policy_for = loam::node::policy_for});
}
