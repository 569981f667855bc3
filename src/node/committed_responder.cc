#include "node/committed_responder.h"

#include <utility>

namespace loam::node {
namespace {

class CommittedResponder : public Responder {
 public:
  CommittedResponder(Database& database, ResponderPtr inner)
      : database_(database), inner_(std::move(inner)) {}
  // A responder that dies without an answer answers 500; that, too, waits for its place in the
  // order.
  ~CommittedResponder() override {
    database_.after_commit([inner = std::move(inner_)] {});
  }

  void header(std::string_view name, std::string_view value) override {
    inner_->header(name, value);
  }
  void reply(int status, const Json& body) override {
    database_.after_commit([inner = inner_, status, body] { inner->reply(status, body); });
  }
  void reply_error(const Error& error) override {
    database_.after_commit([inner = inner_, error] { inner->reply_error(error); });
  }
  void start_stream(std::string_view content_type) override {
    database_.after_commit(
        [inner = inner_, type = std::string(content_type)] { inner->start_stream(type); });
  }
  void write(std::string_view bytes) override {
    if (!database_.turn_open()) return inner_->write(bytes);
    *held_ += bytes.size();
    database_.after_commit([inner = inner_, held = held_, text = std::string(bytes)] {
      *held -= text.size();
      inner->write(text);
    });
  }
  std::size_t pending_bytes() const override { return inner_->pending_bytes() + *held_; }
  void on_drained(std::function<void()> ready) override {
    database_.after_commit([inner = inner_, ready = std::move(ready)]() mutable {
      inner->on_drained(std::move(ready));
    });
  }
  void end_stream() override {
    database_.after_commit([inner = inner_] { inner->end_stream(); });
  }
  void upgrade(std::string_view protocol, std::function<void(Fd)> taken) override {
    database_.after_commit(
        [inner = inner_, name = std::string(protocol), taken = std::move(taken)]() mutable {
          inner->upgrade(name, std::move(taken));
        });
  }
  void on_closed(std::function<void()> gone) override { inner_->on_closed(std::move(gone)); }

 private:
  Database& database_;
  ResponderPtr inner_;
  std::shared_ptr<std::size_t> held_ =
      std::make_shared<std::size_t>(0);  // outlives us in held actions
};

}  // namespace

ResponderPtr committed(Database& database, ResponderPtr inner) {
  return std::make_shared<CommittedResponder>(database, std::move(inner));
}

}  // namespace loam::node
