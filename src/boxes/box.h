// A box over ssh, as this program's verbs use it.
//
//   connect() ─▶ relay (a child) ─▶ node(): as if it were this machine's
//                                └▶ open_files(): for a push
#pragma once

#include <string>

#include "base/fd.h"
#include "base/json.h"
#include "base/result.h"
#include "boxes/address.h"
#include "engines/local_node.h"

namespace loam::boxes {

class Box {
 public:
  // Starts ssh and waits for the bridge's hello. Asks on the terminal where there is one
  // (passwords, a new host's key); the error is unavailable, and names the box.
  static Result<Box> connect(const Address& address);
  Box(Box&&) noexcept = default;
  Box& operator=(Box&&) noexcept = default;
  ~Box();

  const Address& address() const { return address_; }
  engines::LocalNode node() const { return engines::LocalNode(folder_ + "/node.sock"); }
  Result<Fd> open_files() const { return engines::LocalNode(folder_ + "/files.sock").connect(); }

  // Of the hello.
  bool started_node() const { return hello_["started"].as_bool(); }
  const std::string& node_socket() const { return hello_["socket"].as_string(); }  // there
  const std::string& home() const { return hello_["home"].as_string(); }
  const std::string& projects() const { return hello_["projects"].as_string(); }
  const Json& way_to_registries() const { return hello_["proxy_environment"]; }

 private:
  Box() = default;
  Result<void> start_relay();

  Address address_;
  std::string folder_;  // of the relay's sockets
  Fd lifeline_;
  Child relay_;
  Json hello_;
};

}  // namespace loam::boxes
