// Where one replica attempt's worker comes in: channel.sock in the attempt's folder, until a hello
// is there.
//
// Trust: whoever connects is a process of the attempt; what it sends is foreign. A few connections
// at a time, each with a deadline; garbage is refused with a reason and closed.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "channel/handshake.h"
#include "gateway/event_loop.h"

namespace loam::gateway {

inline constexpr std::size_t kHandshakesMax = 8;  // of one attempt at once
inline constexpr std::chrono::seconds kHandshakeTimeout{10};

class WorkerDoor {
 public:
  using OnHello = std::function<void(Fd socket, const channel::Hello& hello)>;
  // The folder exists: the node made it.
  static Result<std::unique_ptr<WorkerDoor>> open(EventLoop& loop, const std::string& folder,
                                                  OnHello on_hello);
  ~WorkerDoor();

 private:
  struct Visitor {
    Fd socket;
    EventLoop::TimerId timer;
  };

  WorkerDoor(EventLoop& loop, Fd listener, OnHello on_hello);
  void on_knock();
  void on_packet(int fd);
  Fd dismiss(int fd);

  EventLoop& loop_;
  Fd listener_;
  OnHello on_hello_;
  std::map<int, Visitor> visitors_;
};

}  // namespace loam::gateway
