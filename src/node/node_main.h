// `loam node run [--daemon]`: the daemon's entry.
#pragma once

#include <string>
#include <vector>

namespace loam::node {

// `arguments` after "node run". Returns the exit status: 0 stopped as asked (--daemon: the node
// answers), 1 it could not start or had to end, 2 wrong arguments. Must be called before any thread
// is made.
int node_main(const std::vector<std::string>& arguments);

}  // namespace loam::node
