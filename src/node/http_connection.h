// One client of the node's socket: read a request, hand it to the handler as an Exchange, write
// what that answers, read the next one. While an answer is awaited only a hang-up is watched for.
//
//   accept (http_server.cc) ─▶ Connection ─ Beast's parser ─▶ Request ─▶ handler ─▶ Exchange
//   (Responder, http_exchange.h) ─▶ queue ─▶ socket
//
// Ownership: a Connection lives by its pending asynchronous operations (therefore shared_ptr) and
// in the server's list; an Exchange by whoever is to answer.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/system_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "node/http_server.h"
#include "node/http_wire.h"

namespace loam::node {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Socket = asio::local::stream_protocol::socket;
using SystemError = boost::system::error_code;

class Exchange;

// A client of another machine whose connection is somebody else's by now (a shim's, after a 101): what
// is left of it here, so that it ends with the token by which it came (remote_stream.cc).
//
//   node ══ the stream ══▶ shim ══▶ gate ══▶ client        node ── one byte: end it ──▶ gate
//
// Ownership: the server's list holds it until the gate says that the connection has ended.
class RemoteStream : public std::enable_shared_from_this<RemoteStream> {
 public:
  RemoteStream(asio::io_context& io, const Caller& caller)
      : life_(io), expiry_(io), caller_(caller) {}

  // `gone`: once, when the connection has ended, however that was.
  void watch(Fd life, std::function<void()> gone);
  void end();
  std::int64_t token() const { return caller_.token; }

 private:
  void ended();

  Socket life_;
  asio::system_timer expiry_;
  const Caller caller_;
  std::function<void()> gone_;
};

// Calls `late` when the token of `caller` expires, by the time of day; never where it does not.
void at_expiry(asio::system_timer& timer, const Caller& caller, std::function<void()> late);

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  struct Owner {
    HttpServer::Handler handler;
    HttpServer::RemoteRules remote;
    std::list<std::shared_ptr<Connection>> connections;
    std::list<std::shared_ptr<RemoteStream>> streams;  // that were remote connections
    bool finishing = false;
    std::function<void()> finished;
    void check_finished();
  };

  Connection(asio::io_context& io, Socket socket, Caller caller, std::weak_ptr<Owner> owner)
      : io_(io),
        socket_(std::move(socket)),
        deadline_(io),
        expiry_(io),
        beat_(io),
        caller_(std::move(caller)),
        owner_(std::move(owner)) {}
  Connection(asio::io_context& io, Socket socket, std::weak_ptr<Owner> owner, RemoteClient client)
      : io_(io),
        socket_(std::move(socket)),
        deadline_(io),
        expiry_(io),
        beat_(io),
        owner_(std::move(owner)),
        address_(std::move(client.address)),
        life_(std::move(client.life)) {}

  void read_request();
  void close();
  void close_when_idle();
  bool writing() const { return write_running_ || !queue_.empty(); }
  std::uint32_t uid() const { return caller_.uid; }
  bool remote() const { return !address_.empty(); }
  std::int64_t token() const { return caller_.token; }
  void refuse(int status, const Error& error, std::string_view headers = {});
  void fail_now(const Error& error);

  // For Exchange.
  void send(const std::string& bytes);
  void start_stream(std::string_view content_type, std::string_view headers);
  void end_exchange(bool keep_open);
  void upgrade(std::string_view protocol, std::function<void(Fd)> taken);
  std::size_t pending_bytes() const { return queue_.size() + flight_.size(); }
  asio::io_context& io() { return io_; }

 private:
  void limit(std::chrono::seconds time);
  void head_read(const SystemError& error);
  void authenticate();
  void admitted(Result<Caller> caller);
  Result<Request> request_of_head() const;
  void read_body();
  void beat();
  void body_read(const SystemError& error);
  void read_failed(const SystemError& error);
  void take_request();
  void watch_hang_up();
  void hung_up();
  void write_next();
  void written(const SystemError& error);
  void hand_over();

  asio::io_context& io_;
  Socket socket_;
  asio::steady_timer deadline_;
  asio::system_timer expiry_;  // of the token
  asio::steady_timer beat_;    // while a remote client's event stream is open
  Caller caller_;
  std::weak_ptr<Owner> owner_;
  const std::string address_;  // of a client from elsewhere; "": the kernel says who calls
  Fd life_;                    // of such a client (RemoteClient)
  boost::beast::flat_buffer buffer_{kHeadBytesMax + 64 * 1024};
  std::optional<http::request_parser<http::string_body>> parser_;
  std::weak_ptr<Exchange> exchange_;
  bool exchange_open_ = false;
  bool keep_alive_ = false;
  bool closing_ = false;  // after what is queued
  bool closed_ = false;
  bool watching_ = false;  // a hang-up wait is pending
  bool write_running_ = false;
  std::string flight_;  // being written
  std::string queue_;   // to be written next
  std::function<void(Fd)> taken_;
};

}  // namespace loam::node
