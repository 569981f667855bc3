// A gang: N processes of one attempt.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>

#include "base/text.h"
#include "shim/rendezvous.h"
#include "shim/shim_fixture.h"

namespace loam::shim {
namespace {

using api::Outcome;

class RanksTest : public ShimTest {
 protected:
  void gang(std::size_t ranks) {
    plan_.ranks.resize(ranks);
    for (std::size_t i = 0; i < ranks; ++i)
      plan_.ranks[i].environment = {{"MINE", "device-" + std::to_string(i)}};
  }
  std::vector<std::string> sorted_lines() {
    auto lines = split(output(), '\n');
    std::sort(lines.begin(), lines.end());
    if (!lines.empty() && lines.front().empty()) lines.erase(lines.begin());
    return lines;
  }
};

TEST_F(RanksTest, EachHasItsEnvironmentAndItsLabel) {
  gang(3);
  plan_.environment.emplace_back("RANK", "seven");  // a variable of the file's does not replace it
  const auto record =
      run("echo $RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $MASTER_ADDR $MINE; printf end");
  EXPECT_EQ(record.outcome, Outcome::exited) << record.error;
  EXPECT_EQ(record.code, 0);
  EXPECT_EQ(record.rank, -1);
  EXPECT_EQ(sorted_lines(), (std::vector<std::string>{
                                "[0] 0 0 3 3 127.0.0.1 device-0", "[0] end",
                                "[1] 1 1 3 3 127.0.0.1 device-1", "[1] end",
                                "[2] 2 2 3 3 127.0.0.1 device-2", "[2] end"}));
}

TEST_F(RanksTest, TheFirstThatFailsEndsTheOthersAndIsNamed) {
  gang(3);
  const auto record = run(
      "trap 'echo told to end; exit 4' TERM; echo up\n"
      "[ $RANK = 1 ] && sleep 0.3 && exit 75\n"
      "while :; do sleep 0.01; done");
  EXPECT_EQ(record.outcome, Outcome::exited);
  EXPECT_EQ(record.code, 75);
  EXPECT_EQ(record.rank, 1);
  EXPECT_NE(output().find("[0] told to end\n"), std::string::npos) << output();
  EXPECT_NE(output().find("[2] told to end\n"), std::string::npos) << output();
}

TEST_F(RanksTest, WhoIgnoresTermAfterAFailureIsKilled) {
  gang(2);
  plan_.grace_ms = 50;
  const auto record = run("trap '' TERM; [ $RANK = 1 ] && kill -SEGV $$; while :; do sleep 0.01; done");
  EXPECT_EQ(record.outcome, Outcome::signaled);
  EXPECT_EQ(record.signal, SIGSEGV);
  EXPECT_EQ(record.rank, 1);
}

TEST_F(RanksTest, OneThatEndsWellLeavesTheOthersAtWork) {
  gang(2);
  const auto record = run("[ $RANK = 0 ] && exit 0; sleep 0.3; echo done");
  EXPECT_EQ(record.outcome, Outcome::exited);
  EXPECT_EQ(record.code, 0);
  EXPECT_EQ(output(), "[1] done\n");
}

// Before the last has been executed, too: that is not a failed start.
TEST_F(RanksTest, AFailureInTheFirstMomentIsAFailure) {
  gang(32);
  plan_.argv = {"/bin/false"};
  const auto record = run("");
  EXPECT_EQ(record.outcome, Outcome::exited) << record.error;
  EXPECT_EQ(record.code, 1);
  EXPECT_GE(record.rank, 0);
}

TEST_F(RanksTest, WhatCannotStartSaysWhyOnce) {
  gang(3);
  plan_.argv = {"no-such-program"};
  const auto record = run("");
  EXPECT_EQ(record.outcome, Outcome::failed_to_start);
  EXPECT_TRUE(record.error.starts_with("no-such-program: no such program in the environment"))
      << record.error;
  EXPECT_EQ(record.error.find("no-such-program", 10), std::string::npos) << record.error;
  EXPECT_EQ(record.rank, -1);
}

TEST_F(RanksTest, StopAndSignalsReachAll) {
  gang(2);
  Node node = start(
      "trap 'echo saved' USR1; trap 'echo hup' HUP; trap 'echo bye; exit 0' TERM\n"
      "echo up; while :; do sleep 0.01; done");
  for (const char* rank : {"[0]", "[1]"}) await_output(std::string(rank) + " up\n");
  node.send(Json::object({{"type", "signal"}, {"number", SIGUSR1}}));
  for (const char* rank : {"[0]", "[1]"}) await_output(std::string(rank) + " saved\n");
  node.send(Json::object({{"type", "signal"}, {"number", SIGHUP}}));
  for (const char* rank : {"[0]", "[1]"}) await_output(std::string(rank) + " hup\n");
  node.send(Json::object({{"type", "stop"}, {"outcome", "cancelled"}}));
  const auto record = node.receive_exit();
  EXPECT_EQ(record.outcome, Outcome::cancelled);
  EXPECT_EQ(record.rank, -1);
  for (const char* rank : {"[0]", "[1]"}) await_output(std::string(rank) + " bye\n");
}

// What one of them wrote to the end does not make the others' files whole.
TEST_F(RanksTest, AGangThatWasKilledInItsGraceIsKilledWhoeverEndedFirst) {
  gang(2);
  plan_.grace_ms = 200;
  Node node = start(
      "[ $RANK = 0 ] && trap 'exit 3' TERM || trap '' TERM\n"
      "echo up; while :; do sleep 0.01; done");
  for (const char* rank : {"[0]", "[1]"}) await_output(std::string(rank) + " up\n");
  node.send(Json::object({{"type", "stop"}, {"outcome", "preempted"}}));
  const auto record = node.receive_exit();
  EXPECT_EQ(record.outcome, Outcome::preempted);
  EXPECT_EQ(record.signal, SIGKILL);
  EXPECT_EQ(record.code, 0);
}

TEST_F(RanksTest, SecretsReachAll) {
  gang(3);
  plan_.secrets_file = folder_ + "/secrets";
  ASSERT_TRUE(write_file_atomic(plan_.secrets_file, R"({"TOKEN":"hush"})").has_value());
  const auto record = run("echo $TOKEN");
  EXPECT_EQ(record.code, 0) << record.error;
  EXPECT_EQ(sorted_lines(), (std::vector<std::string>{"[0] hush", "[1] hush", "[2] hush"}));
}

TEST_F(RanksTest, TooLongALineIsToldInPieces) {
  gang(1);
  run("head -c 20000 /dev/zero | tr '\\0' x; echo; echo next");
  const auto lines = split(output(), '\n');
  ASSERT_GE(lines.size(), 4u);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_TRUE(lines[i].starts_with("[0] ")) << i;
  EXPECT_EQ(lines[3], "[0] next");
}

TEST_F(RanksTest, APlanComesBackAsItWas) {
  gang(2);
  plan_.argv = {"true"};
  plan_.ranks[1].cpus = {1, 3};
  const Json document = api::to_json(plan_);
  EXPECT_EQ(api::to_json(api::attempt_plan_from(document).value()).dump(), document.dump());
}

// ---- where they meet ----

int bind_port(std::uint16_t port, bool reuse) {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = reuse ? 1 : 0;
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {INADDR_ANY}};
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return errno;
  return ::listen(fd.get(), 1) == 0 ? 0 : errno;
}

TEST_F(RanksTest, ThePortIsOneAttemptsAloneAndRankZeroCanListen) {
  gang(2);
  const auto first = take_rendezvous(plan_), second = take_rendezvous(plan_);
  ASSERT_TRUE(first.has_value() && second.has_value());
  EXPECT_NE(first->port, second->port);
  EXPECT_EQ(bind_port(first->port, true), 0);
  // Reserved: who asks for it without knowing what it is does not get it.
  EXPECT_EQ(bind_port(first->port, false), EADDRINUSE);
}

TEST_F(RanksTest, WithoutANetworkOfTheHostsAllPortsAreFree) {
  plan_.network = api::Network::none;
  const auto rendezvous = take_rendezvous(plan_);
  ASSERT_TRUE(rendezvous.has_value());
  EXPECT_FALSE(rendezvous->reserved);
}

TEST_F(RanksTest, RanksMeet) {
  gang(2);
  const std::string program =
      "import os, socket, time\n"
      "at = (os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']))\n"
      "if os.environ['RANK'] == '0':\n"
      "    peer = socket.create_server(at).accept()[0]\n"
      "    print('met', peer.recv(9).decode())\n"
      "else:\n"
      "    for attempt in range(600):\n"
      "        try:\n"
      "            socket.create_connection(at).sendall(b'rank 1')\n"
      "            break\n"
      "        except ConnectionRefusedError:\n"
      "            time.sleep(0.05)\n";
  for (const auto network : {api::Network::host, api::Network::none}) {
    plan_.network = network;
    plan_.argv = {"/usr/bin/python3", "-c", program};
    (void)::unlink((plan_.folder + "/exit.json").c_str());
    const auto record = run("");
    EXPECT_EQ(record.outcome, Outcome::exited) << record.error;
    EXPECT_EQ(record.code, 0) << output();
    EXPECT_NE(output().find("[0] met rank 1\n"), std::string::npos) << output();
  }
}

}  // namespace
}  // namespace loam::shim
