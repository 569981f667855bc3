// The program loam-shim: arguments in, one attempt kept to its end, exit status out.
//
//   loam-shim --serve …  (one per node)  ─ fork ─▶ keep_attempt     loam-shim --lock=FD FOLDER ─▶ keep_attempt
#pragma once

#include <string>

#include "base/fd.h"
#include "sandbox/sandbox.h"

namespace loam::shim {

struct Attempt {
  std::string folder;
  Fd lock;
  Fd node;                 // where there is one
  sandbox::Shared shared;  // what the server has made for all
};

// 0: the attempt is over and its record written (also where it could not be started). 1: no record
// could be written. 2: usage. 3: the attempt's lock is not held, or its record is there already:
// nothing was started.
int run_shim(int argument_count, char** arguments);
int keep_attempt(Attempt attempt);

// The process that forks a shim for each attempt (base/fork_server.h), until its node is gone. A request is the
// attempt's folder, then "UID:GID" where its sandbox swaps these ids with root's, else ""; with the locked descriptor,
// the node's end of a socket pair and the shim's log. argv[1] is kServe.
inline constexpr const char* kServe = "--serve";
int serve_shims(int argument_count, char** arguments);

}  // namespace loam::shim
