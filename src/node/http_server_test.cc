#include "node/http_server.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <future>
#include <thread>

#include "base/clock.h"
#include "base/files.h"
#include "node/committed_responder.h"
#include "node/http_wire.h"

namespace loam::node {
namespace {

// A server on a real socket; its loop on a thread of its own, the test is the client.
class HttpServerTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/loam-http-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    address_.sun_family = AF_UNIX;
    std::strcpy(address_.sun_path, (folder_ + "/s").c_str());
    Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address_), sizeof address_), 0);
    ASSERT_EQ(::listen(listener.get(), 512), 0);
    loop_ = std::make_unique<Loop>();
    server_ = std::make_unique<HttpServer>(
        *loop_, std::move(listener),
        [this](const Request& r, ResponderPtr p) { handler_(r, std::move(p)); });
    thread_ = std::thread([this] { loop_->run(); });
  }
  void TearDown() override {
    loop_->stop();
    thread_.join();
    server_.reset();
    loop_.reset();
    ASSERT_TRUE(remove_tree(folder_));
  }
  Fd connect() {
    Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address_), sizeof address_), 0);
    return fd;
  }
  static void send(const Fd& fd, std::string_view text) {
    std::size_t sent = 0;
    while (sent < text.size()) {
      const ssize_t count = ::send(fd.get(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (count <= 0) return;  // the server has refused and gone
      sent += static_cast<std::size_t>(count);
    }
  }
  // Until the server closes or `enough` is in what came.
  static std::string receive(const Fd& fd, std::string_view enough = {}) {
    std::string text;
    char buffer[65536];
    for (;;) {
      const ssize_t count = ::recv(fd.get(), buffer, sizeof buffer, 0);
      if (count <= 0) return text;
      text.append(buffer, static_cast<std::size_t>(count));
      if (!enough.empty() && text.find(enough) != std::string::npos) return text;
    }
  }
  std::string ask(std::string_view text, std::string_view enough = {}) {
    const Fd fd = connect();
    send(fd, text);
    return receive(fd, enough);
  }
  // A client of another machine, by the other ends of what its gate hands on.
  struct Remote {
    Fd connection, life;
  };
  static std::pair<Fd, Fd> pair() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    return {Fd(ends[0]), Fd(ends[1])};
  }
  Remote connect_remote(HttpServer::RemoteRules rules = {}) {
    auto [connection, its_connection] = pair();
    auto [life, its_life] = pair();
    if (!rules.authenticate)
      rules.authenticate = [this](std::string_view, const std::string&, const auto& answer) { answer(caller_); };
    on_loop([&] {
      server_->set_remote(std::move(rules));
      server_->take({std::move(its_connection), std::move(its_life), "10.0.0.1"});
    });
    return {std::move(connection), std::move(life)};
  }
  // On the loop's thread, awaited.
  void on_loop(const std::function<void()>& task) {
    std::promise<void> done;
    loop_->post([&] { task(), done.set_value(); });
    done.get_future().wait();
  }

  std::string folder_;
  sockaddr_un address_{};
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<HttpServer> server_;
  std::thread thread_;
  Caller caller_{.uid = 4001, .gid = 4001, .token = 7, .scope = Scope::submit};  // by any token
  HttpServer::Handler handler_ = [](const Request& r, ResponderPtr p) {
    p->reply(200, Json::object({{"method", r.method},
                                {"path", r.path},
                                {"body", r.body},
                                {"x", r.query.contains("x") ? r.query.at("x") : ""},
                                {"uid", static_cast<std::int64_t>(r.caller.uid)},
                                {"pid", r.caller.pid}}));
  };
};

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

constexpr std::string_view kRemoteGet = "GET / HTTP/1.1\r\nhost: n\r\nauthorization: Bearer x\r\n\r\n";
constexpr std::string_view kRemoteAttach =
    "POST /x HTTP/1.1\r\nhost: n\r\nauthorization: Bearer x\r\nconnection: upgrade\r\nupgrade: "
    "loam-attach\r\ncontent-length: 0\r\n\r\n";

TEST_F(HttpServerTest, AStreamEndsWhenItsTokenExpires) {
  handler_ = [](const Request&, ResponderPtr p) {
    p->start_stream("application/octet-stream");
    p->on_closed([p] {});  // goes on for ever
  };
  caller_.token_until_ms = wall_ms() + 300;
  const Remote remote = connect_remote();
  send(remote.connection, kRemoteGet);
  EXPECT_TRUE(receive(remote.connection).starts_with("HTTP/1.1 200"));  // until its end
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

TEST_F(HttpServerTest, ARemoteEventStreamBeats) {
  handler_ = [](const Request&, ResponderPtr p) {
    p->start_stream("text/event-stream");
    p->on_closed([p] {});
  };
  Remote remote = connect_remote({.authenticate = {}, .beat = std::chrono::milliseconds(20)});
  send(remote.connection, kRemoteGet);
  const std::string comment = "3\r\n:\n\n\r\n";
  EXPECT_NE(receive(remote.connection, comment + comment).find("text/event-stream"), std::string::npos);
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
