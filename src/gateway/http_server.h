// HTTP/1.1 for the gateway: connections, framing, limits. Knows nothing of models.
//
//   listener ─▶ Connection: bytes ─Beast's parser─▶ Exchange ─▶ HttpHandler ─▶ answer ─▶ bytes
//
// One request of a connection at a time; what a client sends ahead (pipelining) waits in the
// socket. A slow client costs a connection and its body's bytes, nothing else. Threads: the loop's.
// Trust: clients are foreign; every limit is a constant below.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <unordered_map>

#include "base/fd.h"
#include "base/result.h"
#include "gateway/event_loop.h"
#include "gateway/exchange.h"

namespace loam::gateway {

inline constexpr std::size_t kHeadBytesMax = 16 * 1024;
inline constexpr std::size_t kBodyBytesMax = 64u << 20;
inline constexpr std::size_t kChunkedBodyBytesMax = 4u << 20;  // its size is not known beforehand
inline constexpr std::size_t kBodiesBytesMax = 512u << 20;     // of all connections together
inline constexpr std::size_t kConnectionsMax = 1024;
inline constexpr std::chrono::seconds kIdleTimeout{75};   // between requests
inline constexpr std::chrono::seconds kHeadTimeout{10};   // from a head's first byte to its end
inline constexpr std::chrono::seconds kBodyTimeout{60};   // from the head's end to the body's
inline constexpr std::chrono::seconds kWriteTimeout{60};  // for the answer to be taken

class Connection;

class HttpServer {
 public:
  HttpServer(EventLoop& loop, HttpHandler& handler);
  ~HttpServer();

  // "127.0.0.1:8000", "[::1]:0". `exists` where the port is in use. Replaces an earlier listener;
  // connections stay.
  Result<void> listen(const std::string& address);
  // The address with the port that the kernel chose.
  const std::string& listening() const { return listening_; }

  // No new connections or requests; connections close when their answer is out. True: none is left.
  bool drain();
  std::size_t connection_count() const { return connections_.size(); }

 private:
  friend class Connection;
  void accept_some();
  void sweep();
  void close(int fd);

  EventLoop& loop_;
  HttpHandler& handler_;
  Fd listener_;
  std::string listening_;
  std::unordered_map<int, std::unique_ptr<Connection>> connections_;
  std::size_t bodies_bytes_ = 0;
  bool sweeping_ = false;
  bool draining_ = false;
};

}  // namespace loam::gateway
