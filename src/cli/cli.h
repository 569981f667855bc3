// The command line's entry: argv → verb → exit status (docs/cli.md).
//
//   argv ── parse.h ──▶ Verb + Arguments ── verb_X.cc ──▶ engines::LocalNode ──▶ lines or JSON on
//   stdout
//
// Threads: one. Trust: what the node says is checked by engines/, printed through printable().
#pragma once

#include "cli/verb.h"

namespace loam::cli {

int cli_main(int argc, char** argv, NodeCode node);

}  // namespace loam::cli
