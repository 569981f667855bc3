// What of `loam node` is done with the node's own rights over its state: run [--daemon], the
// daemon's entry; purge [--force]; restore FILE.
#pragma once

#include <string>
#include <vector>

namespace loam::node {

// `arguments` after "node". Returns the exit status: 0 done, for run: stopped as asked (--daemon:
// the node answers), 1 it could not start or had to end, 2 wrong arguments. Must be called before
// any thread is made.
int node_main(const std::vector<std::string>& arguments);

}  // namespace loam::node
