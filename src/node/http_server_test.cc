#include "node/http_server.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>
#include <thread>

#include "node/committed_responder.h"
#include "node/http_server_fixture.h"
#include "node/http_wire.h"

namespace loam::node {
namespace {

TEST_F(HttpServerTest, AnswersWithTheKernelsWordOnTheCaller) {
  const std::string reply =
      ask("POST /a%20b/c?x=1%2B+2 HTTP/1.1\r\nhost: n\r\ncontent-length: 7\r\nconnection: "
          "close\r\n\r\n{\"k\":1}");
  EXPECT_TRUE(reply.starts_with("HTTP/1.1 200 OK\r\n")) << reply;
  const auto body = Json::parse(reply.substr(reply.find("\r\n\r\n") + 4));
  ASSERT_TRUE(body) << reply;
  EXPECT_EQ((*body)["method"].as_string(), "POST");
  EXPECT_EQ((*body)["path"].as_string(), "/a b/c");
  EXPECT_EQ((*body)["x"].as_string(), "1+ 2");
  EXPECT_EQ((*body)["body"]["k"].as_int(), 1);
  EXPECT_EQ((*body)["uid"].as_int(), static_cast<std::int64_t>(::getuid()));
  EXPECT_EQ((*body)["pid"].as_int(), ::getpid());
}

TEST_F(HttpServerTest, ServesPipelinedRequestsInOrder) {
  const std::string reply =
      ask("GET /one HTTP/1.1\r\nhost: n\r\n\r\nGET /two HTTP/1.1\r\nhost: n\r\n\r\n"
          "GET /three HTTP/1.1\r\nhost: n\r\nconnection: close\r\n\r\n");
  const auto one = reply.find("/one"), two = reply.find("/two"), three = reply.find("/three");
  EXPECT_TRUE(one < two && two < three && three != std::string::npos) << reply;
}

TEST_F(HttpServerTest, RefusesWhatIsNotARequest) {
  EXPECT_NE(ask("hello\r\n\r\n").find("400"), std::string::npos);
  EXPECT_NE(ask(std::string("\0\1\2\3\r\n\r\n", 8)).find("400"), std::string::npos);
  EXPECT_NE(ask("GET /%zz HTTP/1.1\r\nhost: n\r\n\r\n").find("%-escape"), std::string::npos);
  EXPECT_NE(ask("GET /%00 HTTP/1.1\r\nhost: n\r\n\r\n").find("not UTF-8"), std::string::npos);
  EXPECT_NE(ask("GET / HTTP/1.0\r\n\r\n").find("505"), std::string::npos);
  EXPECT_NE(ask("POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n{a}").find("request's body"),
            std::string::npos);
  EXPECT_NE(ask("POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n").find("413"),
            std::string::npos);
  EXPECT_NE(ask("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n").find("400"),
            std::string::npos);
  EXPECT_NE(ask("GET / HTTP/1.1\r\nx: " + std::string(100'000, 'y') + "\r\n\r\n").find("431"),
            std::string::npos);
}

TEST_F(HttpServerTest, RefusesABodyOverTheLimitAlsoInChunks) {
  std::string text = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
  const std::string part = "100000\r\n" + std::string(1 << 20, ' ') + "\r\n";
  for (int i = 0; i < 17; ++i) text += part;
  EXPECT_NE(ask(text + "0\r\n\r\n").find("413"), std::string::npos);
}

TEST_F(HttpServerTest, AResponderThatDiesAnswers) {
  handler_ = [](const Request&, ResponderPtr) {};
  EXPECT_NE(ask("GET / HTTP/1.1\r\nconnection: close\r\n\r\n").find("500"), std::string::npos);
}

TEST_F(HttpServerTest, StreamsInChunks) {
  handler_ = [](const Request&, ResponderPtr p) {
    p->start_stream("text/event-stream");
    p->write("event: a\n\n");
    p->end_stream();
  };
  const std::string reply = ask("GET / HTTP/1.1\r\nconnection: close\r\n\r\n");
  EXPECT_NE(reply.find("transfer-encoding: chunked"), std::string::npos);
  EXPECT_NE(reply.find("\r\n\r\na\r\nevent: a\n\n\r\n0\r\n\r\n"), std::string::npos) << reply;
}

TEST_F(HttpServerTest, NoticesAVanishedClient) {
  std::promise<void> arrived, gone;
  ResponderPtr kept;
  handler_ = [&](const Request&, ResponderPtr p) {
    kept = p;
    p->start_stream("text/event-stream");
    p->on_closed([&] { gone.set_value(); });
    arrived.set_value();
  };
  Fd fd = connect();
  send(fd, "GET / HTTP/1.1\r\n\r\n");
  arrived.get_future().wait();
  fd.reset();
  EXPECT_EQ(gone.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
  on_loop([&] {
    kept->write("nobody reads this");
    kept.reset();
  });
}

TEST_F(HttpServerTest, AClientThatStopsSendingStillGetsItsAnswer) {
  std::promise<ResponderPtr> given;
  handler_ = [&](const Request&, ResponderPtr p) { given.set_value(std::move(p)); };
  const Fd fd = connect();
  send(fd, "GET / HTTP/1.1\r\nconnection: close\r\n\r\n");
  ::shutdown(fd.get(), SHUT_WR);
  ResponderPtr responder = given.get_future().get();
  on_loop([&] {
    responder->reply(200, Json::object({{"late", true}}));
    responder.reset();
  });
  EXPECT_NE(receive(fd).find("late"), std::string::npos);
}

TEST_F(HttpServerTest, ASlowReaderIsPendingUntilItReads) {
  constexpr std::size_t kBytes = 4 << 20;
  std::promise<ResponderPtr> given;
  std::promise<void> drained;
  handler_ = [&](const Request&, ResponderPtr p) {
    p->start_stream("application/octet-stream");
    p->write(std::string(kBytes, 'x'));
    p->on_drained([&] { drained.set_value(); });
    given.set_value(p);
  };
  const Fd fd = connect();
  send(fd, "GET / HTTP/1.1\r\nconnection: close\r\n\r\n");
  ResponderPtr responder = given.get_future().get();
  on_loop([&] { EXPECT_GT(responder->pending_bytes(), 0U); });
  auto finished = drained.get_future();
  std::thread reader([&] { EXPECT_GT(receive(fd).size(), kBytes); });
  finished.wait();
  on_loop([&] {
    EXPECT_LE(responder->pending_bytes(), 64U * 1024);
    responder->end_stream();
    responder.reset();
  });
  reader.join();
}

TEST_F(HttpServerTest, UpgradeHandsTheConnectionOver) {
  std::promise<Fd> taken;
  handler_ = [&](const Request& r, ResponderPtr p) {
    EXPECT_EQ(r.upgrade, "loam-attach");
    p->upgrade("loam-attach", [&](Fd fd) { taken.set_value(std::move(fd)); });
  };
  const Fd fd = connect();
  send(fd,
       "POST /x HTTP/1.1\r\nconnection: upgrade\r\nupgrade: loam-attach\r\ncontent-length: "
       "0\r\n\r\n");
  EXPECT_TRUE(receive(fd, "\r\n\r\n").starts_with("HTTP/1.1 101"));
  const Fd ours = taken.get_future().get();
  send(fd, "ping");
  EXPECT_EQ(receive(ours, "ping"), "ping");
  send(ours, "pong");
  EXPECT_EQ(receive(fd, "pong"), "pong");
}

TEST_F(HttpServerTest, BytesBeforeThe101AreRefusedNotLost) {
  handler_ = [&](const Request&, ResponderPtr p) { p->upgrade("loam-attach", [](Fd) { FAIL(); }); };
  EXPECT_NE(ask("POST /x HTTP/1.1\r\nconnection: upgrade\r\nupgrade: loam-attach\r\n\r\nearly")
                .find("400"),
            std::string::npos);
}

TEST_F(HttpServerTest, OneUserCannotTakeEveryConnection) {
  std::vector<Fd> many;
  for (std::size_t i = 0; i < kConnectionsOfUidMax; ++i) many.push_back(connect());
  // The last of them has been accepted before the one more, which is therefore refused.
  EXPECT_NE(ask("GET / HTTP/1.1\r\nconnection: close\r\n\r\n").find("503"), std::string::npos);
  many.clear();
  on_loop([] {});
}

TEST_F(HttpServerTest, AnswersWaitForTheTurnsCommit) {
  auto database = Database::open(folder_ + "/db", {{"a table", {"CREATE TABLE t(x INTEGER)"}}});
  ASSERT_TRUE(database);
  std::promise<void> replied;
  on_loop([&] {
    handler_ = [&](const Request&, ResponderPtr p) {
      ResponderPtr responder = committed(**database, std::move(p));
      (*database)->write("INSERT INTO t VALUES (1)", {});
      responder->reply(201, nullptr);
      replied.set_value();
    };
  });
  const Fd fd = connect();
  send(fd, "POST / HTTP/1.1\r\nconnection: close\r\n\r\n");
  replied.get_future().wait();
  on_loop([] {});
  char byte;
  EXPECT_EQ(::recv(fd.get(), &byte, 1, MSG_DONTWAIT), -1);
  on_loop([&] { EXPECT_TRUE((*database)->commit_turn()); });
  EXPECT_TRUE(receive(fd).starts_with("HTTP/1.1 201"));
}

TEST_F(HttpServerTest, WhoeverWaitsGetsTheNodesLastWord) {
  std::promise<ResponderPtr> given;
  handler_ = [&](const Request&, ResponderPtr p) { given.set_value(std::move(p)); };
  const Fd fd = connect();
  send(fd, "GET / HTTP/1.1\r\n\r\n");
  ResponderPtr responder = given.get_future().get();
  on_loop([&] { server_->fail_all({ErrorCode::full, "the disk is full"}); });
  EXPECT_NE(receive(fd, "}}").find("the disk is full"), std::string::npos);
  on_loop([&] { responder.reset(); });
}

TEST_F(HttpServerTest, FinishingLetsGivenRepliesLeave) {
  std::promise<void> finished;
  handler_ = [&](const Request&, ResponderPtr p) {
    p->reply(200, Json::object({{"text", std::string(1 << 20, 'x')}}));
    server_->finish([&] { finished.set_value(); });
  };
  const std::string reply = ask("GET / HTTP/1.1\r\n\r\n");
  EXPECT_GT(reply.size(), std::size_t{1} << 20);
  finished.get_future().wait();
}

}  // namespace
}  // namespace loam::node
