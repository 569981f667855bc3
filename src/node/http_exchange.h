// One request that awaits its answer: what handlers know as a Responder. Lives as long as somebody
// is to answer; dying without an answer is one (500, or a stream that breaks off).
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "node/http_connection.h"

namespace loam::node {

class Exchange : public Responder, public std::enable_shared_from_this<Exchange> {
 public:
  Exchange(std::shared_ptr<Connection> connection, bool keep_alive);
  ~Exchange() override;

  void header(std::string_view name, std::string_view value) override;
  void reply(int status, const Json& body) override;
  void reply_error(const Error& error) override;
  void start_stream(std::string_view content_type) override;
  void write(std::string_view bytes) override;
  std::size_t pending_bytes() const override;
  void on_drained(std::function<void()> ready) override;
  void end_stream() override;
  void upgrade(std::string_view protocol, std::function<void(Fd)> taken) override;
  void on_closed(std::function<void()> gone) override;

  // For the connection.
  void client_gone();
  bool waiting() const { return state_ == State::waiting; }
  void drained();

 private:
  enum class State { waiting, streaming, done, gone };

  void post(std::function<void()> task);
  void post_drained();
  void forget();
  void finish(bool keep_open);

  std::shared_ptr<Connection> connection_;
  const bool keep_alive_;
  State state_ = State::waiting;
  std::string headers_;
  std::function<void()> gone_;
  std::function<void()> drained_;
};

}  // namespace loam::node
