// The lock, the record and the node: whatever of them dies, the others go on.
#include "shim/node_link.h"

#include "shim/shim_fixture.h"

namespace loam::shim {
namespace {

using api::Outcome;

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

}  // namespace
}  // namespace loam::shim
