// `loam __bridge`: what ssh starts on a box. Finds or starts this user's node, says so in one line
// (hello.h), then carries channels (mux.h) between standard streams and
//
//   "node"   a connection to the node's socket: peer credentials are those of the ssh login
//   "files"  a `loam __receive` of its own, which keeps pushed projects (receive.h)
//
// Ends with its standard input. Threads: one.
#pragma once

#include <string_view>

namespace loam::boxes {

inline constexpr std::string_view kBridgeWord = "__bridge";
inline constexpr std::string_view kReceiveWord = "__receive";
inline constexpr std::string_view kNodeService = "node";
inline constexpr std::string_view kFilesService = "files";

int bridge_main();

}  // namespace loam::boxes
