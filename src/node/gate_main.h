// `loam __gate`: the process between the network and the node. It speaks TCP and TLS with whoever
// comes, so that the node, which is root, parses none of it: what it hands on are bytes, and the
// address that they are from.
//
//   client ══ TCP, TLS ══▶ gate ── ends of two socket pairs, by a packet ──▶ node (http_server.h take)
//                            ├──── bytes, both ways ──── the one pair
//                            └──── its life ──── the other: a byte from the node ends the connection,
//                                  also where its bytes are a shim's by then
//
// Trust: everything from the network is foreign. Before anything is read from there it has given its
// rights up: an id that owns nothing, no new privileges, not to be traced. It holds the certificate's
// key; jobs and builds have other ids. Limits: connections, of one address (of IPv6 one /64) too, time
// for the handshake, for bytes that are not taken; a client that vanishes is noticed (keepalive).
// Threads: one.
#pragma once

namespace loam::node {

inline constexpr const char* kGateWord = "__gate";
inline constexpr int kGateSocket = 3;  // its number in the gate

// First packet from the node: {"certificate", "key": PEM or "", "uid", "gid"} and the listening
// socket; the gate's answer is "ok" or what is wrong. From then on each packet of the gate is an
// address with a connection and its life. "drain" from the node: no more of them, the end with the last.
int gate_main();

}  // namespace loam::node
