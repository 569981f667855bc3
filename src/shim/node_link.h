// The shim's side of shim.sock: several nodes may come and go; each packet is one JSON document.
#pragma once

#include <poll.h>

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/json.h"
#include "base/result.h"

namespace loam::shim {

class NodeLink {
 public:
  using Handler = std::function<void(const Json& packet, Fd descriptor)>;

  // `first`: an end of a socketpair, -1 for none. The socket's name is FOLDER/shim.sock.
  static Result<NodeLink> open(const std::string& folder, Fd first);

  // To every connection, now and (until the next of the same type) to each that comes later.
  void announce(const Json& packet);
  // To those of now alone.
  void tell(const Json& packet);
  bool connected() const { return !connections_.empty(); }

  void add_polls(std::vector<pollfd>& polls) const;
  // With the polls that add_polls appended, in the same order.
  void handle(const pollfd* polls, const Handler& handler);
  std::size_t poll_count() const { return 1 + connections_.size(); }

 private:
  struct Connection {
    Fd fd;
    std::deque<std::string> outgoing;
    bool gone = false;
  };
  void send(const std::string& text);
  void accept_one();
  void flush(Connection& connection);
  void receive(Connection& connection, const Handler& handler);

  Fd listener_;
  std::deque<Connection> connections_;
  std::vector<std::pair<std::string, std::string>> announced_;  // type, packet
};

}  // namespace loam::shim
