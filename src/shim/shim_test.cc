#include "shim/shim.h"

#include "shim/output.h"
#include "shim/shim_fixture.h"

namespace loam::shim {
namespace {

using api::Outcome;

TEST_F(ShimTest, ExitStatusIsRecordedAndTold) {
  const auto record = run("echo out; echo err >&2; exit 3");
  EXPECT_EQ(record.attempt, "7");
  EXPECT_EQ(record.outcome, Outcome::exited);
  EXPECT_EQ(record.code, 3);
  EXPECT_GE(record.ended_ms, record.started_ms);
  EXPECT_EQ(output(), "out\nerr\n");
  EXPECT_FALSE(path_exists(plan_.folder + "/shim.sock"));
  EXPECT_TRUE(lock_is_free());
}

TEST_F(ShimTest, SignalsAreRecorded) {
  const auto record = run("kill -SEGV $$");
  EXPECT_EQ(record.outcome, Outcome::signaled);
  EXPECT_EQ(record.signal, SIGSEGV);
}

TEST_F(ShimTest, RunningIsToldWithTheMissingGuards) {
  Node node = start("sleep 1000");
  const Json packet = node.receive();
  EXPECT_EQ(packet["type"].as_string(), "running");
  EXPECT_GT(packet["started_ms"].as_int(), 0);
  const auto missing = api::missing_guards_from(packet["missing"]);
  ASSERT_TRUE(missing.has_value());
  EXPECT_EQ(missing->at(0).guard, "memory");  // no cgroup in this plan
  node.send(Json::object({{"type", "kill"}}));
  EXPECT_EQ(node.receive_exit().outcome, Outcome::cancelled);
}

TEST_F(ShimTest, WhatCannotStartSaysWhy) {
  plan_.argv = {"no-such-program"};
  const auto record = run("");
  EXPECT_EQ(record.outcome, Outcome::failed_to_start);
  EXPECT_NE(record.error.find("no-such-program: no such program in the environment"),
            std::string::npos);
}

TEST_F(ShimTest, RequiredGuardThatIsMissingRefusesTheJob) {
  plan_.require = {"memory"};
  const auto record = run("echo ran");
  EXPECT_EQ(record.outcome, Outcome::failed_to_start);
  EXPECT_NE(record.error.find("'memory'"), std::string::npos);
  EXPECT_NE(record.error.find("mend:"), std::string::npos);
  EXPECT_EQ(output(), "");
}

TEST_F(ShimTest, RequiredGuardsThatHoldLetItRun) {
  make_group({.memory_bytes = 64u << 20, .cpu_milli = 1000, .processes_max = 64});
  plan_.require = {"memory", "cpu", "processes", "devices", "kill"};
  const auto record = run("echo ran");
  EXPECT_EQ(record.outcome, Outcome::exited) << record.error;
  EXPECT_TRUE(record.missing.empty());
  EXPECT_GT(record.memory_peak_bytes, 0u);
  EXPECT_EQ(record.memory_limit_bytes, 64u << 20);
  EXPECT_GT(record.cpu_ns, 0u);
  EXPECT_TRUE(sandbox::cgroup_empty(cgroup_).value());
}

TEST_F(ShimTest, TimeLimitEndsByTerm) {
  plan_.time_limit_ms = 50;
  const auto record = run("trap 'echo term; exit 9' TERM; while :; do sleep 0.01; done");
  EXPECT_EQ(record.outcome, Outcome::timed_out);
  EXPECT_EQ(record.code, 9);
  EXPECT_NE(output().find("term\n"), std::string::npos);
}

TEST_F(ShimTest, WhoIgnoresTermIsKilledAfterTheGrace) {
  plan_.time_limit_ms = 50;
  plan_.grace_ms = 50;
  const auto record = run("trap '' TERM; while :; do sleep 0.01; done");
  EXPECT_EQ(record.outcome, Outcome::timed_out);
  EXPECT_EQ(record.signal, SIGKILL);
}

TEST_F(ShimTest, CancelTermsEveryProcess) {
  Node node = start(
      "(trap 'echo child; exit' TERM; echo ready; while :; do sleep 0.01; done) & "
      "trap 'wait; echo parent; exit 4' TERM; while :; do sleep 0.01; done");
  await_output("ready");
  node.send(Json::object({{"type", "stop"}, {"outcome", "cancelled"}}));
  const auto record = node.receive_exit();
  EXPECT_EQ(record.outcome, Outcome::cancelled);
  EXPECT_EQ(record.code, 4);
  EXPECT_NE(output().find("child\n"), std::string::npos);
  EXPECT_NE(output().find("parent\n"), std::string::npos);
}

TEST_F(ShimTest, CheckpointSignalsGoOnlyToThoseWhoCatchThem) {
  Node node =
      start("sleep 1000 & trap 'echo checkpoint' USR1; echo ready; while :; do sleep 0.01; done");
  await_output("ready");
  node.send(Json::object({{"type", "signal"}, {"number", SIGUSR1}}));
  await_output("checkpoint");
  node.send(Json::object({{"type", "signal"}, {"number", SIGTERM}}));
  EXPECT_EQ(node.receive_exit().signal, SIGTERM);
}

TEST_F(ShimTest, OutOfMemoryEndsTheWholeAttempt) {
  make_group({.memory_bytes = 48u << 20});
  const auto record =
      run("echo begun; python3 -c 'x = bytearray(200 << 20)'; sleep 1000; echo never");
  EXPECT_EQ(record.outcome, Outcome::out_of_memory);
  EXPECT_NE(record.error.find("charged peak"), std::string::npos);
  EXPECT_NE(record.error.find("largest process"), std::string::npos);
  // The shell may still say "Killed" of its child before it ends itself.
  EXPECT_TRUE(output().starts_with("begun\n")) << output();
  EXPECT_EQ(output().find("never"), std::string::npos);
}

TEST_F(ShimTest, DescendantsDoNotOutliveTheAttempt) {
  make_group({});
  const auto record = run("setsid sleep 1000 & setsid sleep 1000 & echo done");
  EXPECT_EQ(record.outcome, Outcome::exited);
  EXPECT_TRUE(sandbox::cgroup_empty(cgroup_).value());
}

TEST_F(ShimTest, OutputIsKeptWithinItsCap) {
  plan_.output_bytes_max = 64 * 1024;
  run("i=0; while [ $i -lt 4000 ]; do echo \"line $i of some length to fill the file\"; "
      "i=$((i+1)); done");
  const std::string previous = read_file(plan_.folder + "/output/previous.log").value();
  EXPECT_EQ(previous.size(), 32u * 1024);
  EXPECT_LE(output().size(), 32u * 1024);
  EXPECT_NE(output().find("line 3999 "), std::string::npos);
  // Nothing is lost between the two files.
  const std::string both = previous + output();
  EXPECT_EQ(read_file(plan_.folder + "/output/previous.log").value().find("line 0 "),
            std::string::npos);
  EXPECT_NE(both.find("line 3500 of some length to fill the file\nline 3501 "), std::string::npos);
}

TEST_F(ShimTest, LogCursorFollowsRotation) {
  auto log = OutputLog::open(plan_.folder + "/output", 16 * 1024);
  ASSERT_TRUE(log.has_value());
  LogCursor cursor(log->folder());
  EXPECT_EQ(cursor.read_more(100), "");
  std::string written, seen;
  for (int i = 0; i < 3; ++i) {
    const std::string piece(6'000, static_cast<char>('a' + i));
    log->append(piece);
    written += piece;
    for (std::string more = cursor.read_more(1000); !more.empty(); more = cursor.read_more(1000))
      seen += more;
    EXPECT_EQ(seen, written);
  }
}

TEST_F(ShimTest, LockIsHeldByTheShimAlone) {
  Node node = start("echo ready; exec sleep 1000");
  await_output("ready");
  EXPECT_FALSE(lock_is_free());
  ::kill(shim_, SIGKILL);
  (void)wait_for_shim();
  EXPECT_TRUE(lock_is_free()) << "a process of the job holds it";
}

// What the starter handed over goes no further, whatever the shim should execute one day.
TEST_F(ShimTest, DescriptorsOfTheStarterAreMarked) {
  Node node = start("echo ready; exec sleep 1000");
  await_output("ready");
  const std::string process = "/proc/" + std::to_string(shim_);
  const auto names = list_folder(process + "/fd");
  ASSERT_TRUE(names.has_value());
  bool seen = false;
  for (const std::string& name : *names) {
    char target[256] = {};
    (void)!::readlink((process + "/fd/" + name).c_str(), target, sizeof target - 1);
    if (plan_.folder + "/lock" != target) continue;
    seen = true;
    const std::string info = read_file(process + "/fdinfo/" + name).value();
    const auto at = info.find("flags:\t");
    ASSERT_NE(at, std::string::npos);
    EXPECT_NE(std::stoul(info.substr(at + 7), nullptr, 8) & O_CLOEXEC, 0u) << info;
  }
  EXPECT_TRUE(seen);
}

// The end of pid 1 reaches only its namespace: whoever else is in the group goes before the record
// is written.
TEST_F(ShimTest, TheGroupIsEmptyBeforeTheRecordIsWritten) {
  make_group({});
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const pid_t reaper = ::fork();  // so that the killed one is no zombie of this process
  if (reaper == 0) {
    const pid_t stray = ::fork();
    if (stray == 0) {
      for (const auto& [controller, folder] : cgroup_.v1)
        (void)!::write(::open((folder + "/tasks").c_str(), O_WRONLY), "0", 1);
      (void)!::write(::open((cgroup_.v2 + "/cgroup.procs").c_str(), O_WRONLY), "0", 1);
      (void)!::write(ends[1], "x", 1);
      for (;;) ::pause();
    }
    int status = 0;
    (void)::waitpid(stray, &status, 0);
    ::_exit(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? 0 : 1);
  }
  char mark = 0;
  ASSERT_EQ(::read(ends[0], &mark, 1), 1);
  ::close(ends[0]);
  ::close(ends[1]);
  EXPECT_EQ(run("exit 0").outcome, Outcome::exited);
  EXPECT_TRUE(sandbox::cgroup_empty(cgroup_).value());
  EXPECT_TRUE(sandbox::kill_cgroup(cgroup_, 10'000).has_value());  // so that the test ends
  int status = -1;
  ASSERT_EQ(::waitpid(reaper, &status, 0), reaper);
  EXPECT_EQ(status, 0);
}

TEST_F(ShimTest, SecondShimOfAnAttemptDoesNothing) {
  Node node = start("echo ready; exec sleep 1000");
  await_output("ready");
  const pid_t first = shim_;
  // What a confused node would do: another descriptor of the same lock file, without the lock.
  const Fd lock(::open((plan_.folder + "/lock").c_str(), O_RDWR | O_CLOEXEC));
  const pid_t second = ::fork();
  if (second == 0) {
    std::string arguments[] = {"loam-shim", "--lock=" + std::to_string(lock.get()), plan_.folder};
    char* pointers[] = {arguments[0].data(), arguments[1].data(), arguments[2].data(), nullptr};
    ::_exit(run_shim(3, pointers));
  }
  int status = 0;
  ASSERT_EQ(::waitpid(second, &status, 0), second);
  EXPECT_EQ(WEXITSTATUS(status), 3);
  shim_ = first;
  node.send(Json::object({{"type", "kill"}}));
  (void)node.receive_exit();
}

TEST_F(ShimTest, RecordOfAnEndedAttemptStays) {
  const auto first = run("exit 5");
  Node node = start("exit 6");
  EXPECT_EQ(WEXITSTATUS(wait_for_shim()), 3);
  EXPECT_EQ(recorded()->code, 5);
}

TEST_F(ShimTest, NodeThatVanishesIsNotMissed) {
  Node node = start("echo ready; sleep 0.2; echo done; exit 2");
  await_output("ready");
  node.hang_up();
  EXPECT_EQ(wait_for_shim(), 0);
  EXPECT_EQ(recorded()->code, 2);
  EXPECT_EQ(output(), "ready\ndone\n");
}

TEST_F(ShimTest, LaterNodeHearsEverything) {
  Node first = start("echo ready; while [ ! -e /data/go ]; do sleep 0.01; done; exit 2");
  first.hang_up();
  await_output("ready");
  Node second = connect();
  EXPECT_EQ(second.receive()["type"].as_string(), "running");
  second.send(Json::object({{"type", "kill"}}));
  EXPECT_EQ(second.receive_exit().outcome, Outcome::cancelled);
  Node third = connect();
  EXPECT_EQ(third.receive()["type"].as_string(), "running");
  EXPECT_EQ(third.receive_exit().outcome, Outcome::cancelled);
  third.send(Json::object({{"type", "committed"}}));
  EXPECT_EQ(wait_for_shim(), 0);
}

TEST_F(ShimTest, ShimWaitsForTheNodesWord) {
  Node node = start("exit 0");
  (void)node.receive_exit();
  EXPECT_EQ(::waitpid(shim_, nullptr, WNOHANG), 0);
  EXPECT_FALSE(lock_is_free());
  node.hang_up();
  EXPECT_EQ(wait_for_shim(), 0);
}

TEST_F(ShimTest, GarbageFromANodeIsIgnored) {
  Node node = start("exit 1");
  node.send("no object");
  node.send(Json::object({{"type", "signal"}, {"number", 4711}}));
  node.send(Json::object({{"type", "attach"}}));  // without a descriptor
  EXPECT_EQ(node.receive_exit().code, 1);
}

// At each crash point: the lock is free, nothing of the job remains, and a record is there or not,
// never half.
TEST_F(ShimTest, CrashesLeaveNoProcessAndNoHalfRecord) {
  const std::pair<const char*, bool> points[] = {{"shim.start", false},
                                                 {"shim.before_running", false},
                                                 {"shim.running", false},
                                                 {"shim.before_exit_record", false},
                                                 {"shim.after_exit_record", true},
                                                 {"shim.after_exit_packet", true}};
  for (const auto& [point, has_record] : points) {
    make_group({});  // a new one each time: see kill_cgroup
    Node node = start("setsid sleep 0.1 & exit 3", point);
    const int status = wait_for_shim();
    EXPECT_TRUE(WIFSIGNALED(status)) << point;
    EXPECT_TRUE(lock_is_free()) << point;
    EXPECT_TRUE(sandbox::kill_cgroup(cgroup_, 10'000).has_value()) << point;
    EXPECT_TRUE(sandbox::remove_cgroup(cgroup_).has_value()) << point;
    EXPECT_EQ(recorded().has_value(), has_record) << point;
    (void)::unlink((plan_.folder + "/exit.json").c_str());
  }
}

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

TEST_F(ShimTest, UnreadablePlanIsRecordedToo) {
  plan_.argv = {"true"};
  Node node = start();
  (void)node.receive_exit();
  node.send(Json::object({{"type", "committed"}}));
  (void)wait_for_shim();
  ASSERT_EQ(::unlink((plan_.folder + "/exit.json").c_str()), 0);
  plan_.uid = 0;  // which no plan may say
  Node second = start();
  (void)wait_for_shim();
  EXPECT_EQ(recorded()->outcome, Outcome::failed_to_start);
  EXPECT_NE(recorded()->error.find("no job runs as 0"), std::string::npos);
}

TEST(ShimUsage, WrongArgumentsAreRefused) {
  std::string arguments[] = {"loam-shim", "--lock=banana", "/nowhere"};
  char* pointers[] = {arguments[0].data(), arguments[1].data(), arguments[2].data(), nullptr};
  EXPECT_EQ(run_shim(3, pointers), 2);
  EXPECT_EQ(run_shim(1, pointers), 2);
}

}  // namespace
}  // namespace loam::shim
