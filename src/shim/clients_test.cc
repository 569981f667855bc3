// What clients of a job's terminal and streams see, and what they cannot do to it.
#include "shim/clients.h"

#include "shim/shim_fixture.h"

namespace loam::shim {
namespace {

using api::Outcome;

TEST_F(ShimTest, TerminalIsTheJobsOwn) {
  plan_.terminal = true;
  Node node = start(
      "stty size; tty; test -t 0 && test -t 1 && test -t 2 && echo terminal; read line; echo got "
      "$line; "
      "trap 'echo interrupted; exit 8' INT; echo ready; while :; do sleep 0.01; done");
  Client client;
  client.attach(node);
  client.send(api::AttachFrame::resize, std::string_view("\x64\0\x1e\0", 4));
  ASSERT_TRUE(client.await("terminal")) << client.output;
  EXPECT_NE(client.output.find("30 100"), std::string::npos) << client.output;
  EXPECT_NE(client.output.find("/dev/pts/0"), std::string::npos) << client.output;
  client.send(api::AttachFrame::input, "hello\r");
  ASSERT_TRUE(client.await("got hello")) << client.output;
  ASSERT_TRUE(client.await("ready"));
  client.send(api::AttachFrame::input, "\x03");  // Ctrl-C, by the terminal's line discipline
  ASSERT_TRUE(client.await()) << client.output;
  EXPECT_EQ((*client.exit)["code"].as_int(), 8);
  EXPECT_NE(output().find("got hello"), std::string::npos);
}

// A client that was waiting speaks before the sandbox has made the terminal: its size and its input
// must not be lost.
TEST_F(ShimTest, WhatComesBeforeTheTerminalReachesTheJob) {
  plan_.terminal = true;
  Node node = start("stty size; read line; echo got $line");
  Client client;
  client.attach(node);
  client.send(api::AttachFrame::resize, std::string_view("\x64\0\x1e\0", 4));
  client.send(api::AttachFrame::input, "early\r");
  ASSERT_TRUE(client.await()) << client.output;
  EXPECT_NE(client.output.find("30 100"), std::string::npos) << client.output;
  EXPECT_NE(client.output.find("got early"), std::string::npos) << client.output;
}

TEST_F(ShimTest, WhoDoesNothingIsWarnedAndThenEnded) {
  plan_.terminal = true;
  plan_.idle_limit_ms = 500;
  Node node = start("stty -echo; while read line; do :; done; sleep 600");
  Client client;
  client.attach(node);
  client.send(api::AttachFrame::resize, std::string_view("\x64\0\x1e\0", 4));
  ASSERT_TRUE(client.await("nothing typed or said for")) << client.output;
  // A key keeps it: the warning comes again instead of the end.
  client.output.clear();
  client.send(api::AttachFrame::input, "\r");
  ASSERT_TRUE(client.await("nothing typed or said for")) << client.output;
  ASSERT_TRUE(client.await());
  EXPECT_EQ((*client.exit)["outcome"].as_string(), "timed_out");
  EXPECT_EQ((*client.exit)["error"].as_string(), "idle for 500 ms");
  EXPECT_EQ(output().find("nothing typed"), std::string::npos) << "the warning is not the job's output";
}

TEST_F(ShimTest, StandardInputComesFromTheClientAndStreamsStayApart) {
  plan_.standard_input = true;
  Node node = start("cat; echo problem >&2; exit 6");
  Client client;
  client.attach(node);
  client.send(api::AttachFrame::input, "one\n");
  client.send(api::AttachFrame::input, "two\n");
  client.send(api::AttachFrame::input, "");
  ASSERT_TRUE(client.await());
  EXPECT_EQ(client.output, "one\ntwo\n");
  EXPECT_EQ(client.error, "problem\n");
  EXPECT_EQ((*client.exit)["code"].as_int(), 6);
}

TEST_F(ShimTest, ClientThatHangsUpEndsTheInputNotTheJob) {
  plan_.standard_input = true;
  Node node = start("cat; echo after");
  Client client;
  client.attach(node);
  client.send(api::AttachFrame::input, "one\n");
  ASSERT_TRUE(client.await("one"));
  client.hang_up();
  EXPECT_EQ(node.receive_exit().code, 0);
  EXPECT_EQ(output(), "one\nafter\n");
}

// One that has not sent a byte yet is as gone as any other.
TEST_F(ShimTest, ClientThatHangsUpBeforeItsFirstByteEndsTheInputToo) {
  plan_.standard_input = true;
  Node node = start("cat; echo after");
  Client client;
  client.attach(node);
  client.hang_up();
  EXPECT_EQ(node.receive_exit().code, 0);
  EXPECT_EQ(output(), "after\n");
}

class TerminalTest : public ShimTest {
 protected:
  // A job on a terminal that can leave word in /data once its terminal is gone.
  Node start_on_terminal(const std::string& script) {
    const std::string told = folder_ + "/told";
    EXPECT_EQ(::mkdir(told.c_str(), 0700), 0);
    EXPECT_EQ(::chown(told.c_str(), kTestId, kTestId), 0);
    plan_.terminal = plan_.standard_input = true;
    plan_.binds.push_back({.from = told, .to = "/data", .writable = true});
    return start(script);
  }
};

TEST_F(TerminalTest, EndsWhenItsClientGoes) {
  Node node = start_on_terminal(
      "trap 'echo hung up > /data/word; exit 9' HUP; echo ready; while :; do sleep 0.01; done");
  Client client;
  client.attach(node);
  ASSERT_TRUE(client.await("ready"));
  client.hang_up();
  const auto record = node.receive_exit();
  EXPECT_EQ(record.outcome, Outcome::cancelled);
  EXPECT_EQ(record.code, 9);
  EXPECT_EQ(read_file(folder_ + "/told/word").value_or("(none)"), "hung up\n");
}

TEST_F(TerminalTest, WhoIgnoresTheHangUpIsKilledAfterTheGrace) {
  plan_.grace_ms = 50;
  Node node = start_on_terminal("trap '' HUP; echo ready; while :; do sleep 0.01; done");
  Client client;
  client.attach(node);
  ASSERT_TRUE(client.await("ready"));
  client.hang_up();
  const auto record = node.receive_exit();
  EXPECT_EQ(record.outcome, Outcome::cancelled);
  EXPECT_EQ(record.signal, SIGKILL);
}

TEST_F(TerminalTest, StaysWhileAnotherClientIsThere) {
  Node node = start_on_terminal("echo ready; read line; echo got $line; exit 4");
  Client first, second;
  first.attach(node);
  second.attach(node);
  ASSERT_TRUE(first.await("ready"));
  first.hang_up();
  second.send(api::AttachFrame::input, "hello\r");
  ASSERT_TRUE(second.await("got hello")) << second.output;
  EXPECT_EQ(node.receive_exit().code, 4);
}

TEST_F(ShimTest, ViewerGetsTheWholeOutputHoweverLateItComes) {
  Node node = start("echo early; while :; do sleep 0.01; done");
  await_output("early");
  Client client;
  client.attach(node);
  ASSERT_TRUE(client.await("early"));
  client.send(api::AttachFrame::signal, std::string(1, static_cast<char>(SIGINT)));
  ASSERT_TRUE(client.await());
  EXPECT_EQ((*client.exit)["signal"].as_int(), SIGINT);
  Client late;  // the shim still waits for the node's word
  late.attach(node);
  ASSERT_TRUE(late.await());
  EXPECT_EQ(late.output, "early\n");
}

TEST_F(ShimTest, SlowClientLosesNothing) {
  plan_.standard_input = true;
  Node node = start("head -c 3000000 /dev/zero | tr '\\0' x; echo end");
  Client client;
  client.attach(node);
  ::usleep(200'000);  // the job meanwhile fills every buffer
  ASSERT_TRUE(client.await());
  EXPECT_EQ(client.output.size(), 3'000'000u + 4);
}

TEST_F(ShimTest, MalformedFramesEndTheClientOnly) {
  Node node = start("echo ready; sleep 0.3; exit 2");
  await_output("ready");
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  node.send(Json::object({{"type", "attach"}}), ends[1]);
  ::close(ends[1]);
  ASSERT_EQ(::write(ends[0], "\xff\xff\xff\xff\xff\xff", 6), 6);
  char byte;
  while (::read(ends[0], &byte, 1) > 0) {
  }
  ::close(ends[0]);
  EXPECT_EQ(node.receive_exit().code, 2);
}

}  // namespace
}  // namespace loam::shim
