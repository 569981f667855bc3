// Where a box is: what ssh is called with, and what may be called so.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace loam::boxes {

struct Address {
  std::string name;         // for people: "gpu1", "ssh:anna@gpu1"
  std::string destination;  // ssh's: "gpu1", "anna@gpu1.lab", an alias of ~/.ssh/config
  std::string program = "loam";
};

// "" or what is wrong with [USER@]HOST: it must be no option of ssh's, and nothing that a
// ProxyCommand's %h or %r could hand to a shell.
std::string destination_problem(std::string_view destination);
// "" or what is wrong with a program's name or path, which the box's login shell reads.
std::string program_problem(std::string_view program);

struct SshOptions {
  bool batch = false;  // asks nothing: neither for a password nor about a host's key
};
// The command that starts the bridge on the box. The user's own ssh configuration is in force but
// for what would get in the way of a session that carries bytes.
std::vector<std::string> ssh_command(const Address& address, const SshOptions& options);

}  // namespace loam::boxes
