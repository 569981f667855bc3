// HTTP/1.1 over the node's Unix socket, with the caller's identity from the kernel (SO_PEERCRED,
// SO_PEERGROUPS), and over the gate's connections (gate.h), where a token says who calls. Handlers
// see plain types: Boost is seen by what implements this (http_connection.h, http_exchange.h).
//
// Trust: requests are foreign bytes: head at most 64 KiB, body at most 16 MiB (an import streams by
// a folder path, never by body), 256 connections, 64 for one uid; a request must be complete within
// 60 s.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/json.h"
#include "base/result.h"
#include "node/loop.h"

namespace loam::node {

inline constexpr std::uint32_t kHeadBytesMax = 64 * 1024;
inline constexpr std::uint64_t kBodyBytesMax = 16u << 20;
inline constexpr std::size_t kConnectionsMax = 256;
inline constexpr std::size_t kConnectionsOfUidMax = 64;
inline constexpr std::size_t kRemoteConnectionsMax = 128;  // besides the others
inline constexpr std::chrono::seconds kRemoteHeadTimeMax{10};  // for a head; before its token is known
inline constexpr std::chrono::seconds kRequestTimeMax{60};  // idle between two requests, too
inline constexpr std::chrono::seconds kBeat{30};  // a comment in a remote client's event stream

// How much of its user's rights a token has; a caller whom the kernel names has all of them.
enum class Scope { none, read, submit, admin };

inline constexpr std::uint32_t kNobody = UINT32_MAX;  // (uid_t)-1, which no user can have

// Nobody, without a right: what is not filled in gives nothing.
struct Caller {
  std::uint32_t uid = kNobody;
  std::uint32_t gid = kNobody;
  std::vector<std::uint32_t> groups;
  std::int32_t pid = 0;
  std::int64_t token = 0;  // by which he came; 0: the kernel's word
  std::int64_t token_until_ms = 0;  // when it expires, 0: never
  Scope scope = Scope::none;
};

struct Request {
  std::string method;
  std::string path;                          // decoded, without the query
  std::map<std::string, std::string> query;  // decoded
  Json body;                                 // null where there is none
  std::string upgrade;                       // the Upgrade header, "" where there is none
  Caller caller;
};

// A reply is given once, now or later, from the loop thread. The node hands its handlers responders
// whose replies wait for the turn's commit (committed_responder.h). One that dies without a reply
// answers 500.
class Responder {
 public:
  virtual ~Responder() = default;
  virtual void header(std::string_view name, std::string_view value) = 0;  // of the reply to come
  virtual void reply(int status, const Json& body) = 0;
  virtual void reply_error(
      const Error& error) = 0;  // {"error":{"code","text"}} with the fitting status
  // Starts a body without an end (chunked): text/event-stream or application/octet-stream.
  virtual void start_stream(std::string_view content_type) = 0;
  virtual void write(std::string_view bytes) = 0;  // queued; see pending_bytes()
  virtual std::size_t pending_bytes() const = 0;   // slow readers: stop producing over a limit
  // Once, from the loop (never from within): nothing or little is pending any more.
  virtual void on_drained(std::function<void()> ready) = 0;
  virtual void end_stream() = 0;
  // 101 Switching Protocols, then the connection itself (to be handed to a shim), blocking. A
  // client that sent bytes behind the request's head before it saw the 101 is refused (400):
  // nothing is ever lost silently.
  virtual void upgrade(std::string_view protocol, std::function<void(Fd)> taken) = 0;
  virtual void on_closed(std::function<void()> gone) = 0;  // the client vanished before the end
};
using ResponderPtr = std::shared_ptr<Responder>;

// As the gate hands it on.
struct RemoteClient {
  Fd connection;
  // A byte into it: the gate ends the connection, whoever holds it by then. Its end: that has ended.
  Fd life;
  std::string address;
};

class HttpServer {
 public:
  using Handler = std::function<void(const Request&, ResponderPtr)>;
  // Takes a listening socket.
  HttpServer(Loop& loop, Fd listener, Handler handler);
  // Clients of other machines, through the gate: each of their requests has a token, and is looked at
  // no further without.
  struct RemoteRules {
    // Who a token stands for: denied (401), busy (429), or another error with its status. The answer
    // comes on the loop, at once or later.
    std::function<void(std::string_view token, const std::string& address,
                       std::function<void(Result<Caller>)> answer)>
        authenticate;
    // Whether the caller may ask for this: looked at before a byte of the body is taken, so that of
    // `request` there is all but that.
    std::function<Result<void>(const Request& request)> allowed;
    // So that a stream whose client has vanished fails, and whoever stands between does not end it.
    std::chrono::milliseconds beat = kBeat;
  };
  void set_remote(RemoteRules rules);
  void take(RemoteClient client);
  // What is open with this token ends, also what is a shim's by now.
  void close_token(std::int64_t token);
  ~HttpServer();

  // Takes no more connections; `done` once every reply that was given has left (2 s at most).
  void finish(std::function<void()> done);
  // The node must end: whoever waits for an answer gets this error, as far as the socket takes it
  // at once.
  void fail_all(const Error& error);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace loam::node
