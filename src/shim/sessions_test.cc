// What joins a running attempt: its own streams and end, and none of it the job's.
#include "shim/sessions.h"

#include "shim/shim_fixture.h"

namespace loam::shim {
namespace {

Json join_packet(const std::string& script, bool terminal = false) {
  return Json::object({{"type", "join"},
                       {"argv", Json::array({"/bin/sh", "-c", script})},
                       {"environment", Json::object({{"OWN", "mine"}})},
                       {"terminal", terminal}});
}

TEST_F(ShimTest, WhoJoinsHasStreamsAndAnEndOfItsOwn) {
  Node node = start("echo running; sleep 600");
  Client client;
  client.attach(node, join_packet("cat; echo $OWN; echo problem >&2; exit 5"));  // before it runs
  client.send(api::AttachFrame::input, "typed ");
  client.send(api::AttachFrame::input, "");
  ASSERT_TRUE(client.await());
  EXPECT_EQ(client.output, "typed mine\n");
  EXPECT_EQ(client.error, "problem\n");
  EXPECT_EQ((*client.exit)["code"].as_int(), 5);
  EXPECT_EQ(output(), "running\n");
  EXPECT_FALSE(recorded().has_value()) << "the job ended with it";
}

TEST_F(ShimTest, WhoJoinsWithATerminalGetsItsSizeAndKeys) {
  Node node = start("echo running; sleep 600");
  Client client;
  client.attach(node, join_packet("trap 'echo interrupted; exit 8' INT; tty; read line; stty size; "
                                  "echo ready; while :; do sleep 0.01; done",
                                  true));
  ASSERT_TRUE(client.await("/dev/pts/")) << client.output;
  client.send(api::AttachFrame::resize, std::string_view("\x64\0\x1e\0", 4));
  client.send(api::AttachFrame::input, "\r");
  ASSERT_TRUE(client.await("ready")) << client.output;
  EXPECT_NE(client.output.find("30 100"), std::string::npos) << client.output;
  client.send(api::AttachFrame::input, "\x03");
  ASSERT_TRUE(client.await()) << client.output;
  EXPECT_EQ((*client.exit)["code"].as_int(), 8);
}

TEST_F(ShimTest, TheJobsEndEndsWhatJoined) {
  Node node = start("echo running; sleep 600");
  Client client;
  client.attach(node, join_packet("echo here; trap '' TERM HUP INT; while :; do sleep 1; done"));
  ASSERT_TRUE(client.await("here"));
  node.send(Json::object({{"type", "kill"}}));
  ASSERT_TRUE(client.await());
  EXPECT_EQ((*client.exit)["outcome"].as_string(), "signaled");
  EXPECT_NE((*client.exit)["error"].as_string().find("has ended"), std::string::npos);
  EXPECT_EQ(node.receive_exit().outcome, api::Outcome::cancelled);
}

TEST_F(ShimTest, AHangUpEndsWhatJoinedAndNotTheJob) {
  Node node = start("while [ ! -e /tmp/gone ]; do sleep 0.01; done; echo seen");
  Client client;
  // A shell tells of a sleep that the signal ends, on a stream that nobody reads any more.
  client.attach(
      node,
      join_packet("trap '' PIPE; trap 'touch /tmp/gone; exit' HUP; echo here; "
                  "while :; do sleep 0.01; done"));
  ASSERT_TRUE(client.await("here"));
  client.hang_up();
  EXPECT_EQ(node.receive_exit().code, 0);
  EXPECT_EQ(output(), "seen\n");
}

TEST_F(ShimTest, ACommandThatIsNotThereSaysSo) {
  Node node = start("sleep 600");
  Client client;
  client.attach(node, Json::object({{"type", "join"}, {"argv", Json::array({"no-such-program"})}}));
  ASSERT_TRUE(client.await());
  EXPECT_EQ((*client.exit)["code"].as_int(), 127);
  EXPECT_NE(client.error.find("no such program"), std::string::npos) << client.error;
}

Json port_packet(int port) { return Json::object({{"type", "join"}, {"port", port}}); }

// Listens on `address`, says "up", answers what it was sent to the end, reversed.
std::string answering(const std::string& address) {
  return "exec python3 -c \"import socket\nserver = socket.create_server(('" + address +
         "', 6006), family=socket.AF_INET6 if ':' in '" + address +
         "' else socket.AF_INET)\nprint('up', flush=True)\nwhile True:\n  peer = server.accept()[0]\n  said = "
         "b''.join(iter(lambda: peer.recv(9999), b''))\n  peer.sendall(said[::-1])\n  peer.close()\"";
}

class PortTest : public ShimTest, public testing::WithParamInterface<const char*> {};

TEST_P(PortTest, AClientIsConnectedWithinTheJobsNetwork) {
  plan_.network = api::Network::none;
  Node node = start(answering(GetParam()));
  await_output("up\n");
  Client client;
  client.attach(node, port_packet(6006));
  client.send(api::AttachFrame::input, "what is ");
  client.send(api::AttachFrame::input, "sent");
  client.send(api::AttachFrame::input, "");  // shuts the sending side: the server reads to the end
  ASSERT_TRUE(client.await());
  EXPECT_EQ(client.output, "tnes si tahw");
  EXPECT_EQ((*client.exit)["outcome"].as_string(), "exited");
  EXPECT_FALSE(recorded().has_value()) << "the job ended with it";
  EXPECT_EQ(output(), "up\n");
}
INSTANTIATE_TEST_SUITE_P(Loopback, PortTest, testing::Values("127.0.0.1", "::1"));

TEST_F(ShimTest, WhereNobodyListensTheClientIsTold) {
  plan_.network = api::Network::none;
  Node node = start("echo running; sleep 600");
  Client client;
  client.attach(node, port_packet(6006));
  ASSERT_TRUE(client.await());
  EXPECT_EQ((*client.exit)["outcome"].as_string(), "failed_to_start");
  EXPECT_EQ((*client.exit)["error"].as_string(), "port 6006 of the job: Connection refused");
}

TEST_F(ShimTest, AConnectionEndsWithTheJobAndAClientLeavesAlone) {
  plan_.network = api::Network::none;
  Node node = start(answering("127.0.0.1"));
  await_output("up\n");
  Client gone, stays;
  gone.attach(node, port_packet(6006));
  gone.hang_up();
  stays.attach(node, port_packet(6006));
  stays.send(api::AttachFrame::input, "begun");
  node.send(Json::object({{"type", "kill"}}));
  ASSERT_TRUE(stays.await());
  EXPECT_EQ(node.receive_exit().outcome, api::Outcome::cancelled);
}

}  // namespace
}  // namespace loam::shim
