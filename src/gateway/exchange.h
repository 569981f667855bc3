// One request on one connection and its one answer: what the HTTP server and the models pass
// between them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "trace/request_log.h"

namespace loam::gateway {

struct HttpRequest {
  std::string method;
  std::string target;
  std::string body;
  std::optional<std::string> inference_header;  // Inference-Header-Content-Length, as it came
  std::string content_encoding;
};

struct HttpResponse {
  int status = 200;
  std::string body;                             // JSON, then binary tensors
  std::optional<std::size_t> inference_header;  // bytes of JSON where binary tensors follow
  int retry_after_s = 0;                        // 0: no such header
  std::string_view allow;                       // what a 405 names; a literal
};

HttpResponse error_response(int status, std::string_view text);
// Status line and header fields, without those of the connection and the empty line.
std::string head_of(const HttpResponse& response, const trace::RequestId& id);

// Answered exactly once; whoever drops it unanswered has answered 500. Owned by whoever works on
// it; the connection that it belongs to may be gone (then the answer goes nowhere).
class Exchange {
 public:
  using Send = std::function<void(Exchange&, HttpResponse)>;
  Exchange(trace::RequestId id, Send send) : id_(id), send_(std::move(send)) {}
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  ~Exchange();

  HttpRequest request;

  const trace::RequestId& id() const { return id_; }
  bool answered() const { return answered_; }
  // The client is gone (or has given up): work on it may stop.
  bool gone() const { return send_ == nullptr && !answered_; }
  void answer(HttpResponse response);
  // By the connection, when it ends.
  void abandon() { send_ = nullptr; }
  // Rows of it lie with a worker: the connection then waits for the answer even after the client
  // has closed its sending side.
  bool dispatched = false;

 private:
  trace::RequestId id_;
  Send send_;
  bool answered_ = false;
};

// shared_ptr because an exchange is held by its connection and by the model's queue, and either may
// end first: the connection when the client vanishes, the queue when the answer is there.
using ExchangePtr = std::shared_ptr<Exchange>;

// What the HTTP server asks of the gateway.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  virtual trace::RequestId next_id() = 0;
  // The head is in, the body not yet.
  virtual void arriving(const ExchangePtr& exchange) = 0;
  // The whole request is in. Answers now or later.
  virtual void handle(const ExchangePtr& exchange) = 0;
  // The client went away: while the body came (never handled), or while the answer was awaited.
  virtual void vanished(const ExchangePtr& exchange) = 0;
};

}  // namespace loam::gateway
