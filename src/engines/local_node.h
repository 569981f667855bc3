// The client of this machine's node (docs/node-api.md): which socket, starting one where nobody
// listens, one request per connection.
//
//   find_node / find_or_start_node ─▶ LocalNode ── call() ──▶ JSON
//                                              └── open() ──▶ Exchange, polled by the caller
//                                              (events, logs)
//
// Trust: what the node says is checked as foreign bytes (sizes, JSON), and its error texts are made
// printable. Threads: none; a LocalNode may be copied and used from anywhere.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/json.h"
#include "base/result.h"
#include "engines/http_exchange.h"
#include "engines/service_manager.h"

namespace loam::engines {

inline constexpr std::size_t kAnswerBytesMax = 64u << 20;

struct Response {
  int status = 0;
  Json body;
  bool ok() const { return status >= 200 && status < 300; }
};
// The error that a refusal carries; where it carries none, one that names the status.
Error error_of(const Response& response);

// Something else to listen to while an answer is awaited: `ready` runs when fd is readable; false
// gives up (cancelled).
struct Wake {
  int fd = -1;
  std::function<bool()> ready;
};

class LocalNode {
 public:
  explicit LocalNode(std::string socket) : socket_(std::move(socket)) {}
  const std::string& socket() const { return socket_; }
  // A connection of the caller's own.
  Result<Fd> connect() const;

  // The answer as it is, whatever its status. unavailable: nobody listens.
  Result<Response> request(std::string_view method, const std::string& target,
                           const Json& body = {}, const Wake* wake = nullptr) const;
  // The body of a 2xx answer, else error_of.
  Result<Json> call(std::string_view method, const std::string& target, const Json& body = {},
                    const Wake* wake = nullptr) const;
  // Sends and returns at once; the caller polls and reads.
  Result<Exchange> open(std::string_view method, const std::string& target,
                        const Json& body = {}) const;
  Result<Exchange> open_upgrade(const std::string& target, std::string_view protocol,
                                const Json& body = {}) const;
  // Hands on each piece of a 2xx answer's body until it ends or `on_bytes` says false. A refusal is
  // its error.
  Result<void> stream(std::string_view method, const std::string& target, const Json& body,
                      const std::function<bool(std::string_view)>& on_bytes,
                      const Wake* wake = nullptr) const;

 private:
  Result<Exchange> send(const HttpRequest& request) const;
  std::string socket_;
};

// Waits until fd is readable, calling `wake` in between. cancelled where it gives up.
Result<void> await_readable(int fd, const Wake* wake);

// The sockets that this user's programs try, in order. Pure: from an environment and a uid.
std::vector<std::string> socket_candidates(unsigned uid, const Lookup& environment);

// unavailable where nobody listens; the text says where was looked.
Result<LocalNode> find_node();

struct StartOptions {
  // The program and its arguments; empty: this program's `node run --daemon`, by way of systemd where
  // that is better (service_manager.h).
  std::vector<std::string> command;
  std::function<void(const std::string&)> on_started;  // one line for the user
};
// find_node, else starts the user's own (root: the system's) and waits until it listens. A node
// that ends at once is unavailable, with what it said.
Result<LocalNode> find_or_start_node(const StartOptions& options);

}  // namespace loam::engines
