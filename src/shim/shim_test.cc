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
      start("sleep 1000 & trap 'echo checkpoint' USR1; echo ready; while :; do :; done");
  await_output("ready");
  node.send(Json::object({{"type", "signal"}, {"number", SIGUSR1}}));
  await_output("checkpoint");
  node.send(Json::object({{"type", "signal"}, {"number", SIGTERM}}));
  EXPECT_EQ(node.receive_exit().signal, SIGTERM);
}

class PreemptionTest : public ShimTest {
 protected:
  PreemptionTest() {
    plan_.checkpoint_signal = SIGUSR1;
    plan_.checkpoint_grace_ms = 60'000;
  }
  static Json stop(std::string_view outcome) {
    return Json::object({{"type", "stop"}, {"outcome", outcome}});
  }
  // Without what a shell says of a child that TERM has ended.
  std::string said() {
    std::string text = output();
    const std::string remark = "Terminated\n";
    for (auto at = text.find(remark); at != std::string::npos; at = text.find(remark))
      text.erase(at, remark.size());
    return text;
  }
  // Tells the shim once the job is ready, to the end. Scripts that trap USR1 wait without a child: between its
  // fork and its exec a child still counts as one that catches, and the signal then ends it with a word.
  api::ExitRecord preempt(const std::string& script) {
    Node node = start(script);
    await_output("ready");
    node.send(stop("preempted"));
    return node.receive_exit();
  }
};

TEST_F(PreemptionTest, WhoCatchesTheSignalSavesAndEnds) {
  const auto record = preempt(
      "(trap 'echo child term' TERM; while :; do sleep 0.01; done) & "
      "trap 'echo saved; exit 75' USR1; trap 'echo term' TERM; echo ready; "
      "while :; do :; done");
  EXPECT_EQ(record.outcome, Outcome::preempted);
  EXPECT_EQ(record.code, 75);
  EXPECT_EQ(said(), "ready\nsaved\n");  // TERM to nobody
}

// Anywhere in the tree: the shell that waits does not catch it, its grandchild does.
TEST_F(PreemptionTest, TheCatcherMayBeAnyDescendant) {
  const auto record = preempt(
      "sh -c 'setsid sh -c \"trap \\\"echo saved; exit 3\\\" USR1; echo ready; "
      "while :; do :; done\" & wait $!'");
  EXPECT_EQ(record.outcome, Outcome::preempted);
  EXPECT_EQ(record.code, 3);
  EXPECT_EQ(said(), "ready\nsaved\n");
}

TEST_F(PreemptionTest, WhereNobodyCatchesTheSignalComesTerm) {
  const auto record = preempt("trap 'echo term; exit 4' TERM; echo ready; "
                              "while :; do sleep 0.01; done");
  EXPECT_EQ(record.outcome, Outcome::preempted);
  EXPECT_EQ(record.code, 4);
  EXPECT_EQ(said(), "ready\nterm\n");
  const auto uncaught = [&] {
    (void)::unlink((plan_.folder + "/exit.json").c_str());
    (void)::unlink((plan_.folder + "/output/current.log").c_str());
    return preempt("echo ready; exec sleep 1000");
  }();
  EXPECT_EQ(uncaught.outcome, Outcome::preempted);
  EXPECT_EQ(uncaught.signal, SIGTERM);
}

TEST_F(PreemptionTest, WhoStaysIsKilledAfterTheGrace) {
  plan_.checkpoint_grace_ms = 50;
  const auto record =
      preempt("trap 'echo saved' USR1; echo ready; while :; do :; done");
  EXPECT_EQ(record.outcome, Outcome::preempted);
  EXPECT_EQ(record.signal, SIGKILL);
}

TEST_F(PreemptionTest, WithoutACheckpointItIsTermAndTheOrdinaryGrace) {
  plan_.checkpoint_signal = 0;
  plan_.checkpoint_grace_ms = 0;
  const auto record = preempt("trap 'echo usr1; exit 1' USR1; trap 'echo term; exit 2' TERM; "
                              "echo ready; while :; do :; done");
  EXPECT_EQ(record.outcome, Outcome::preempted);
  EXPECT_EQ(record.code, 2);
  EXPECT_EQ(said(), "ready\nterm\n");
}

TEST_F(PreemptionTest, WhoFinishesInTheGraceHasFinished) {
  const auto record =
      preempt("trap 'echo last step; exit 0' USR1; echo ready; while :; do :; done");
  EXPECT_EQ(record.outcome, Outcome::exited);
  EXPECT_EQ(record.code, 0);
}

TEST_F(PreemptionTest, CancellationEndsThePatience) {
  Node node = start("trap 'echo caught' USR1; trap 'echo term; exit 5' TERM; echo ready; "
                    "while :; do :; done");
  await_output("ready");
  node.send(stop("preempted"));
  await_output("caught");
  node.send(stop("preempted"));  // changes nothing
  node.send(stop("cancelled"));
  const auto record = node.receive_exit();
  EXPECT_EQ(record.outcome, Outcome::cancelled);
  EXPECT_EQ(record.code, 5);
  EXPECT_EQ(said(), "ready\ncaught\nterm\n");
}

TEST_F(PreemptionTest, CancelledStaysCancelled) {
  Node node = start("trap 'sleep 0.2; exit 6' TERM; trap 'echo usr1' USR1; echo ready; "
                    "while :; do :; done");
  await_output("ready");
  node.send(stop("cancelled"));
  node.send(stop("preempted"));
  EXPECT_EQ(node.receive_exit().outcome, Outcome::cancelled);
  EXPECT_EQ(said(), "ready\n");
}

TEST_F(PreemptionTest, TheGraceGoesOnWithoutANode) {
  Node node = start("trap 'echo caught; while [ ! -e /data/go ]; do sleep 0.01; done; exit 7' USR1; "
                    "echo ready; while :; do :; done");
  await_output("ready");
  node.send(stop("preempted"));
  await_output("caught");
  node.hang_up();
  Node later = connect();
  EXPECT_EQ(later.receive()["type"].as_string(), "running");
  later.send(stop("preempted"));  // a node that starts again says it again
  later.send(Json::object({{"type", "signal"}, {"number", SIGTERM}}));
  const auto record = later.receive_exit();
  EXPECT_EQ(record.outcome, Outcome::preempted);
  EXPECT_EQ(record.signal, SIGTERM);
}

TEST_F(PreemptionTest, BeforeTheJobRunsNothingOfItRan) {
  plan_.standard_input = true;  // waits for a client that does not come
  Node node = start("echo ran");
  node.send(stop("preempted"));
  EXPECT_EQ(node.receive_exit().outcome, Outcome::preempted);
  EXPECT_EQ(output(), "");
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
  std::size_t all = 0;
  for (int i = 0; i < 4000; ++i) all += ("line " + std::to_string(i) + " of some length to fill the file\n").size();
  struct stat status {};
  ASSERT_EQ(::stat((plan_.folder + "/output/current.log").c_str(), &status), 0);
  EXPECT_EQ(read_file(plan_.folder + "/output/start").value(),
            std::to_string(status.st_ino) + " " + std::to_string(all - output().size()) + "\n");
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
