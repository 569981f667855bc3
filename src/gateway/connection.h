// One client's connection, as a small machine over a non-blocking socket.
//
//   idle ─byte─▶ head ─▶ body ─▶ waiting ─answer─▶ writing ─▶ idle | linger ─▶ closed
//
// Private to http_server.cc and connection.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "gateway/exchange.h"

namespace loam::gateway {

class HttpServer;
class RequestParser;  // Beast's parsers, kept out of headers

class Connection {
 public:
  Connection(HttpServer& server, Fd socket);
  ~Connection();

  void on_events(std::uint32_t events);
  bool overdue(std::int64_t now_ns) const { return now_ns > deadline_ns_; }
  void on_overdue();
  bool is_idle() const { return phase_ == Phase::idle; }
  void close();
  // The answer that is out, or the next one, is the last.
  void close_soon();

 private:
  enum class Phase { idle, head, body, waiting, writing, linger, closed };

  // The answer to the exchange that is waited for.
  void send(const Exchange& exchange, HttpResponse response);
  ExchangePtr make_exchange();
  ExchangePtr current() const;
  void pump();
  bool step();
  bool step_head();
  bool step_body();
  bool step_writing();
  void begin_body();
  void deliver();
  void finish_response();
  void refuse(int status, const std::string& text);
  void receive();
  bool receive_into_body(std::size_t& budget);
  bool grow_body();
  bool charge(std::size_t body_bytes);
  void on_end_of_input();
  void give_up();
  void update_interest();
  void set_phase(Phase phase);

  HttpServer& server_;
  Fd socket_;
  Phase phase_ = Phase::idle;
  std::string input_;                      // received, not yet parsed
  std::unique_ptr<RequestParser> parser_;  // of the request that is being read
  ExchangePtr exchange_;                   // while its request is read
  // Afterwards: whoever works on it owns it, and answers by dropping it if in no other way.
  std::weak_ptr<Exchange> awaited_;
  std::size_t body_size_ = 0;  // as Content-Length says
  std::size_t body_received_ = 0;
  std::size_t charged_bytes_ = 0;  // of the server's bodies_bytes_
  std::string output_head_;
  std::string output_body_;
  std::size_t output_sent_ = 0;
  std::int64_t deadline_ns_ = 0;
  std::uint32_t interest_ = 0;
  bool announced_ = false;    // handler knows that a body is on its way
  bool more_input_ = false;   // sent ahead while an answer is awaited; still in the socket
  bool input_ended_ = false;  // the client has closed its sending side
  bool keep_alive_ = true;
  bool http_1_0_ = false;
  bool pumping_ = false;
};

}  // namespace loam::gateway
