// The client's end of a box: a child of this program that keeps one ssh session and stands in for
// the box's node on Unix sockets of its own, so that every verb talks to a box as it does to this
// machine.
//
//   loam VERB ──▶ FOLDER/node.sock, FOLDER/files.sock ──▶ relay (Mux) ──▶ ssh ──▶ loam __bridge
//
// An ssh session that is lost is begun anew for whoever connects next, without questions: what
// follows a run goes on where it was. The relay ends, and removes its folder, when the program that
// it serves does. Threads: one. Trust: what the box says is foreign bytes (hello.h, mux.h).
#pragma once

#include <string>
#include <vector>

#include "base/fd.h"

namespace loam::boxes {

struct RelayOptions {
  Fd node_listener, files_listener;
  Fd lifeline;                         // its end is the program's
  Fd report;                           // the hello, or why there is none, as one JSON document
  std::vector<std::string> command;    // ssh, for the first session
  std::vector<std::string> reconnect;  // ssh, for later ones
  bool show_errors = false;            // the first session's standard error, as it comes
};
// Until the lifeline ends. Runs in a process of its own.
void run_relay(RelayOptions options);

}  // namespace loam::boxes
