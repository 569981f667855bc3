// Clients of other machines, as their gate hands them on.
#include <cerrno>

#include "base/clock.h"
#include "node/http_server_fixture.h"

namespace loam::node {
namespace {

class RemoteTest : public HttpServerTest {};

constexpr std::string_view kRemoteGet = "GET / HTTP/1.1\r\nhost: n\r\nauthorization: Bearer x\r\n\r\n";
constexpr std::string_view kRemoteAttach =
    "POST /x HTTP/1.1\r\nhost: n\r\nauthorization: Bearer x\r\nconnection: upgrade\r\nupgrade: "
    "loam-attach\r\ncontent-length: 0\r\n\r\n";

TEST_F(RemoteTest, AStreamEndsWhenItsTokenExpires) {
  handler_ = [](const Request&, ResponderPtr p) {
    p->start_stream("application/octet-stream");
    p->on_closed([p] {});  // goes on for ever
  };
  caller_.token_until_ms = wall_ms() + 300;
  const Remote remote = connect_remote();
  send(remote.connection, kRemoteGet);
  EXPECT_TRUE(receive(remote.connection).starts_with("HTTP/1.1 200"));  // until its end
}

TEST_F(RemoteTest, WhatIsNotAllowedIsRefusedBeforeItsBody) {
  handler_ = [](const Request&, ResponderPtr p) { p->reply(200, nullptr); };
  HttpServer::RemoteRules rules;
  rules.allowed = [](const Request& r) -> Result<void> {
    EXPECT_EQ(r.path, "/a b");
    EXPECT_EQ(r.caller.uid, 4001U);
    EXPECT_TRUE(r.body.is_null());
    return fail(ErrorCode::denied, "not with this token");
  };
  const Remote remote = connect_remote(std::move(rules));
  // Of the body nothing ever comes: the answer does not wait for it.
  send(remote.connection, "PUT /a%20b HTTP/1.1\r\nhost: n\r\nauthorization: Bearer x\r\ncontent-length: 16777216\r\n\r\n");
  EXPECT_TRUE(receive(remote.connection).starts_with("HTTP/1.1 403"));
}

// After the 101 the connection is a shim's, and the node holds nothing of it but its life.
class HandedOverTest : public HttpServerTest {
 protected:
  Remote hand_over() {
    handler_ = [this](const Request&, ResponderPtr p) {
      p->upgrade("loam-attach", [this](Fd fd) { taken_.set_value(std::move(fd)); });
    };
    Remote remote = connect_remote();
    send(remote.connection, kRemoteAttach);
    EXPECT_TRUE(receive(remote.connection, "\r\n\r\n").starts_with("HTTP/1.1 101"));
    shims_ = taken_.get_future().get();
    return remote;
  }
  std::promise<Fd> taken_;
  Fd shims_;
};

TEST_F(HandedOverTest, EndsWhenItsTokenIsRevoked) {
  const Remote remote = hand_over();
  on_loop([&] { server_->close_token(8); });
  char word = 1;
  EXPECT_EQ(::recv(remote.life.get(), &word, 1, MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN) << "another token's";
  on_loop([&] { server_->close_token(7); });
  EXPECT_EQ(::recv(remote.life.get(), &word, 1, 0), 1);
  EXPECT_EQ(::recv(remote.life.get(), &word, 1, 0), 0);
}

TEST_F(HandedOverTest, EndsWhenItsTokenExpires) {
  caller_.token_until_ms = wall_ms() + 300;
  const Remote remote = hand_over();
  char word = 1;
  EXPECT_EQ(::recv(remote.life.get(), &word, 1, 0), 1);
}

TEST_F(HandedOverTest, IsForgottenWithItsConnection) {
  Remote remote = hand_over();
  ::shutdown(remote.life.get(), SHUT_WR);  // as a gate that closes it
  char word = 1;
  EXPECT_EQ(::recv(remote.life.get(), &word, 1, 0), 0) << "not told to end what has ended";
  on_loop([&] { server_->close_token(7); });
}

TEST_F(RemoteTest, ARemoteEventStreamBeats) {
  handler_ = [](const Request&, ResponderPtr p) {
    p->start_stream("text/event-stream");
    p->on_closed([p] {});
  };
  Remote remote = connect_remote({.authenticate = {}, .beat = std::chrono::milliseconds(20)});
  send(remote.connection, kRemoteGet);
  const std::string comment = "3\r\n:\n\n\r\n";
  EXPECT_NE(receive(remote.connection, comment + comment).find("text/event-stream"), std::string::npos);
}

}  // namespace
}  // namespace loam::node
