#include "node/port_holder.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"

namespace loam::node {
namespace {

struct Listener {
  Fd socket;
  std::string port;
};

Listener listen_at(const char* address) {
  Listener listener{Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), ""};
  sockaddr_in name{};
  name.sin_family = AF_INET;
  ::inet_pton(AF_INET, address, &name.sin_addr);
  socklen_t size = sizeof name;
  EXPECT_EQ(::bind(listener.socket.get(), reinterpret_cast<sockaddr*>(&name), size), 0);
  EXPECT_EQ(::listen(listener.socket.get(), 1), 0);
  ::getsockname(listener.socket.get(), reinterpret_cast<sockaddr*>(&name), &size);
  listener.port = std::to_string(ntohs(name.sin_port));
  return listener;
}

TEST(PortHolder, NamesWhoListensThere) {
  const Listener listener = listen_at("127.0.0.1");
  for (const char* host : {"127.0.0.1:", "localhost:", "0.0.0.0:"}) {
    const auto holder = port_holder(host + listener.port);
    ASSERT_TRUE(holder) << host;
    EXPECT_EQ(holder->pid, ::getpid());
    EXPECT_EQ(holder->uid, ::getuid());
    EXPECT_EQ(holder_text(*holder, true), "node_test (pid " + std::to_string(::getpid()) + ")");
    EXPECT_NE(holder_text(*holder, false).find("(uid " + std::to_string(::getuid()) + ")"),
              std::string::npos);
    EXPECT_EQ(holder_text(*holder, false).find("node_test"), std::string::npos);
  }
  EXPECT_FALSE(port_holder("127.0.0.2:" + listener.port)) << "that address is free";
}

TEST(PortHolder, AListenerAtEveryAddressHoldsEachOne) {
  const Listener listener = listen_at("0.0.0.0");
  EXPECT_TRUE(port_holder("127.0.0.1:" + listener.port));
}

TEST(PortHolder, NobodyWhereNobodyListens) {
  const std::string port = listen_at("127.0.0.1").port;
  EXPECT_FALSE(port_holder("127.0.0.1:" + port));
  for (const char* wrong : {"", "x", "host:80", "[::1"}) EXPECT_FALSE(port_holder(wrong)) << wrong;
}

}  // namespace
}  // namespace loam::node
