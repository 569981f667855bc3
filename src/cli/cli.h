// The command line's entry: argv → verb → exit status (docs/cli.md).
//
//   argv ── parse.h ──▶ Verb + Arguments ── verb_X.cc ──▶ engines::LocalNode ──▶ lines or JSON on
//   stdout
//
// Threads: one. Trust: what the node says is checked by engines/, printed through printable().
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace loam::cli {

// `node_main`: what `loam node run …` calls, with the words after "run".
int cli_main(int argc, char** argv, std::function<int(const std::vector<std::string>&)> node_main);

}  // namespace loam::cli
