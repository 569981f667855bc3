#include "engines/local_node.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <cstdlib>
#include <map>

#include "engines/test_server.h"

namespace loam::engines {
namespace {

// One canned answer to whatever is asked.
TestServer::Handler canned(const std::string& answer) {
  return [answer](const std::string&, int fd) { send_text(fd, answer); };
}

TEST(LocalNode, AnswersAndRefusals) {
  TestServer server([](const std::string& request, int fd) {
    if (request.starts_with("GET /v1/node ")) return send_text(fd, json_answer(200, "{\"pid\":7}"));
    if (request.find("\"target\":\"17\"") != std::string::npos)
      return send_text(
          fd, json_answer(
                  404, "{\"error\":{\"code\":\"not_found\",\"text\":\"no run \\u001b[31m17\"}}"));
    send_text(fd, "HTTP/1.1 500 X\r\nContent-Length: 4\r\n\r\noops");
  });
  const LocalNode node(server.path());
  const auto good = node.call("GET", "/v1/node");
  ASSERT_TRUE(good) << good.error().text;
  EXPECT_EQ((*good)["pid"].as_int(), 7);
  const auto refused = node.call("POST", "/v1/cancel", Json::object({{"target", "17"}}));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::not_found);
  EXPECT_EQ(refused.error().text.find('\x1b'), std::string::npos)
      << "control bytes reach a terminal";
  const auto broken = node.call("GET", "/v1/other");
  ASSERT_FALSE(broken);
  EXPECT_NE(broken.error().text.find("500"), std::string::npos);
}

TEST(LocalNode, WrongAnswersAreErrors) {
  const std::string endless(300 << 10, 'h');
  const std::map<std::string, std::string> answers{
      {"nothing", ""},
      {"half a head", "HTTP/1.1 200 OK\r\nContent-"},
      {"half a body", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"a\":"},
      {"no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n"},
      {"no JSON", json_answer(200, "hello")},
      {"a huge head", "HTTP/1.1 200 OK\r\nX: " + endless + "\r\n\r\n"},
      {"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} "},
      {"a bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"},
      {"a cut chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{}"},
      {"an endless chunk head", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + endless}};
  for (const auto& [name, answer] : answers) {
    TestServer server(canned(answer));
    const auto result = LocalNode(server.path()).call("GET", "/v1/node");
    EXPECT_FALSE(result) << name;
  }
}

TEST(LocalNode, NobodyListens) {
  const auto result = LocalNode("/tmp/loam-no-such-folder/node.sock").call("GET", "/v1/node");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::unavailable);
  const auto too_long = LocalNode("/tmp/" + std::string(200, 'x')).call("GET", "/v1/node");
  ASSERT_FALSE(too_long);
  EXPECT_NE(too_long.error().text.find("LOAM_RUNTIME_DIR"), std::string::npos);
}

TEST(LocalNode, TooLargeRequestsAreNotSent) {
  TestServer server(canned(json_answer(200, "{}")));
  const auto result = LocalNode(server.path())
                          .call("POST", "/v1/runs",
                                Json::object({{"text", std::string(kRequestBodyBytesMax, 'x')}}));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::too_large);
}

TEST(LocalNode, StreamsChunksAsTheyCome) {
  TestServer server([](const std::string&, int fd) {
    send_text(fd, chunked_head("application/octet-stream"));
    send_text(fd, chunk("one\n"));
    send_text(fd, chunk(std::string("\0\x1b", 2)) + "0\r\n\r\n");
  });
  std::string bytes;
  const auto done = LocalNode(server.path()).stream("GET", "/v1/logs/1", {}, [&](auto some) {
    bytes += some;
    return true;
  });
  ASSERT_TRUE(done) << done.error().text;
  EXPECT_EQ(bytes, std::string("one\n\0\x1b", 6)) << "log bytes pass as they are";
}

TEST(LocalNode, AStreamThatBreaksOffIsAnError) {
  TestServer server([](const std::string&, int fd) {
    send_text(fd, chunked_head("application/octet-stream") + chunk("one\n"));
  });
  std::string bytes;
  const auto done = LocalNode(server.path()).stream("GET", "/v1/logs/1", {}, [&](auto some) {
    bytes += some;
    return true;
  });
  ASSERT_FALSE(done);
  EXPECT_EQ(bytes, "one\n");
}

TEST(LocalNode, ARefusedStreamIsItsError) {
  TestServer server(
      canned(json_answer(404, "{\"error\":{\"code\":\"not_found\",\"text\":\"no such run\"}}")));
  const auto done = LocalNode(server.path()).stream("GET", "/v1/logs/9", {}, [&](auto) {
    ADD_FAILURE() << "a refusal is no log";
    return true;
  });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ErrorCode::not_found);
}

TEST(LocalNode, AWakeGivesUpAnAnswerThatDoesNotCome) {
  const Fd hold(::eventfd(0, EFD_CLOEXEC));
  TestServer server([&](const std::string&, int) {
    pollfd poll_fd{hold.get(), POLLIN, 0};
    (void)::poll(&poll_fd, 1, -1);
  });
  const Fd wake_fd(::eventfd(1, EFD_CLOEXEC));
  const Wake wake{wake_fd.get(), [] { return false; }};
  const auto result = LocalNode(server.path()).call("GET", "/v1/node", {}, &wake);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::cancelled);
  const std::uint64_t one = 1;
  ASSERT_EQ(::write(hold.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
}

TEST(LocalNode, AnUpgradeHandsOverWhatCameEarly) {
  TestServer server([](const std::string& request, int fd) {
    ASSERT_NE(request.find("Upgrade: loam-attach"), std::string::npos);
    send_text(fd,
              "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "
              "loam-attach\r\n\r\nearly");
    char buffer[4];
    if (::recv(fd, buffer, 4, MSG_WAITALL) == 4) send_text(fd, "late");
  });
  auto exchange = LocalNode(server.path()).open_upgrade("/v1/attach/1", "loam-attach");
  ASSERT_TRUE(exchange);
  std::string body;
  while (!exchange->has_head()) {
    ASSERT_TRUE(await_readable(exchange->fd(), nullptr));
    ASSERT_TRUE(exchange->read(body));
  }
  EXPECT_EQ(exchange->head().status, 101);
  auto upgraded = exchange->take_upgraded();
  EXPECT_EQ(upgraded.early, "early");
  ASSERT_TRUE(write_full(upgraded.connection.get(), "ping"));
  EXPECT_EQ(*read_fd(upgraded.connection.get()), "late");
}

std::vector<std::string> candidates(unsigned uid, std::map<std::string, std::string> environment) {
  return socket_candidates(uid, [&](const char* name) -> std::optional<std::string> {
    const auto found = environment.find(name);
    return found == environment.end() ? std::nullopt : std::optional(found->second);
  });
}

TEST(Sockets, InTheOrderOfTheApiDocument) {
  using List = std::vector<std::string>;
  EXPECT_EQ(candidates(0, {{"LOAM_RUNTIME_DIR", "/x"}}), List{"/x/node.sock"});
  EXPECT_EQ(candidates(1000, {{"LOAM_RUNTIME_DIR", "/x"}, {"XDG_RUNTIME_DIR", "/r"}}),
            List{"/x/node.sock"});
  EXPECT_EQ(candidates(0, {{"XDG_RUNTIME_DIR", "/run/user/0"}}), List{"/run/loam/node.sock"});
  EXPECT_EQ(candidates(1000, {{"XDG_RUNTIME_DIR", "/r"}}),
            (List{"/run/loam/node.sock", "/r/loam/node.sock"}));
  EXPECT_EQ(candidates(1000, {{"LOAM_STATE_DIR", "/s"}}),
            (List{"/run/loam/node.sock", "/s/run/node.sock"}));
  EXPECT_EQ(candidates(1000, {{"XDG_STATE_HOME", "/s"}}),
            (List{"/run/loam/node.sock", "/s/loam/run/node.sock"}));
  EXPECT_EQ(candidates(1000, {{"HOME", "/home/ana"}}),
            (List{"/run/loam/node.sock", "/home/ana/.local/state/loam/run/node.sock"}));
}

TEST(Start, ANodeThatEndsAtOnceIsUnavailableWithItsWords) {
  ::setenv("LOAM_RUNTIME_DIR", "/tmp/loam-no-such-folder", 1);
  StartOptions options;
  options.command = {"sh", "-c", "echo 'the state folder is on NFS' >&2; exit 1"};
  const auto node = find_or_start_node(options);
  ::unsetenv("LOAM_RUNTIME_DIR");
  ASSERT_FALSE(node);
  EXPECT_EQ(node.error().code, ErrorCode::unavailable);
  EXPECT_NE(node.error().text.find("the state folder is on NFS"), std::string::npos)
      << node.error().text;
}

TEST(Start, ARunningNodeIsNotStartedAgain) {
  TestServer server(canned(json_answer(200, "{}")));
  ::setenv("LOAM_RUNTIME_DIR", server.folder().c_str(), 1);
  StartOptions options;
  options.command = {"sh", "-c", "echo must not run >&2; exit 1"};
  options.on_started = [](const std::string& line) { ADD_FAILURE() << line; };
  const auto node = find_or_start_node(options);
  ::unsetenv("LOAM_RUNTIME_DIR");
  ASSERT_TRUE(node) << node.error().text;
  EXPECT_EQ(node->socket(), server.path());
}

TEST(Encoding, PathsAndValues) {
  EXPECT_EQ(percent_encoded_path("17/train/2"), "17/train/2");
  EXPECT_EQ(percent_encoded_path("digits@3"), "digits@3");
  EXPECT_EQ(percent_encoded("a b/c?&\xc3\xa4"), "a%20b%2Fc%3F%26%C3%A4");
  EXPECT_EQ(percent_encoded_path("x HTTP/1.1\r\n"), "x%20HTTP/1.1%0D%0A");
}

}  // namespace
}  // namespace loam::engines
