// For tests: a server on a real socket, and its clients.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "base/files.h"
#include "node/http_server.h"

namespace loam::node {

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

}  // namespace loam::node
