#include "sandbox/cgroup.h"

#include <fcntl.h>
#include <signal.h>

#include "sandbox/guards.h"
#include "sandbox/sandbox_fixture.h"

namespace loam::sandbox {
namespace {

using CgroupTest = SandboxTest;

// A child in the group, asleep.
pid_t sleeper(const CgroupPaths& paths) {
  int ends[2];
  EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const pid_t pid = ::fork();
  if (pid == 0) {
    for (const auto& [controller, folder] : paths.v1)
      (void)!::write(::open((folder + "/tasks").c_str(), O_WRONLY), "0", 1);
    (void)!::write(::open((paths.v2 + "/cgroup.procs").c_str(), O_WRONLY), "0", 1);
    (void)!::write(ends[1], "x", 1);
    for (;;) ::pause();
  }
  char mark;
  EXPECT_EQ(::read(ends[0], &mark, 1), 1);
  ::close(ends[0]);
  ::close(ends[1]);
  return pid;
}

TEST_F(CgroupTest, LimitsAreWritten) {
  make_group({.memory_bytes = 64u << 20, .cpu_milli = 1500, .processes_max = 17});
  for (const auto& group : cgroup_.v1) {
    const std::string &controller = group.first, &folder = group.second;
    const auto holds = [&](const char* name, const char* file, const char* value) {
      if (controller != name) return;
      EXPECT_EQ(read_file(folder + file).value(), value);
    };
    holds("memory", "/memory.limit_in_bytes", "67108864\n");
    holds("cpu", "/cpu.cfs_quota_us", "150000\n");
    holds("pids", "/pids.max", "17\n");
  }
  EXPECT_TRUE(cgroup_.any());
  // Only where v2 has the controllers does this process move, to make room for limits.
  EXPECT_TRUE(parents_.v2_limits || !path_exists(parents_.v2 + "/node"));
}

TEST_F(CgroupTest, KillEmptiesTheGroup) {
  make_group({});
  const pid_t pid = sleeper(cgroup_);
  EXPECT_FALSE(cgroup_empty(cgroup_).value());
  const pid_t reaper = ::fork();
  if (reaper == 0) ::_exit(kill_cgroup({.v2 = cgroup_.v2, .v1 = {}}, 5'000) ? 0 : 1);
  int status = -1;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  EXPECT_EQ(::waitpid(reaper, &status, 0), reaper);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(cgroup_empty(cgroup_).value());
}

TEST_F(CgroupTest, GroupsAreListedAndRemoved) {
  make_group({});
  EXPECT_EQ(list_cgroups(parents_), std::vector<std::string>{"one"});
  EXPECT_TRUE(remove_cgroup(cgroup_).has_value());
  EXPECT_TRUE(remove_cgroup(cgroup_).has_value()) << "removing twice is no error";
  EXPECT_TRUE(list_cgroups(parents_).empty());
}

TEST_F(CgroupTest, ParentsGoOnlyWhenNoGroupIsLeft) {
  make_group({});
  remove_cgroup_parents(parents_);
  EXPECT_TRUE(path_exists(cgroup_.v2));
  EXPECT_TRUE(remove_cgroup(cgroup_).has_value());
  remove_cgroup_parents(parents_);
  EXPECT_FALSE(path_exists(parents_.v2));
  for (const auto& [controller, folder] : parents_.v1) EXPECT_FALSE(path_exists(folder)) << folder;
}

TEST_F(CgroupTest, ParentsSurviveTheirRecord) {
  make_group({});
  const auto read = cgroup_parents_from(to_json(parents_));
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->v2, parents_.v2);
  EXPECT_EQ(read->v1, parents_.v1);
}

TEST_F(CgroupTest, CpuTimeIsCounted) {
  make_group({});
  Spec spec = python_spec("for i in range(3000000): pass");
  spec.cgroup = cgroup_;
  EXPECT_TRUE(run(spec).started());
  EXPECT_GT(read_cpu_ns(cgroup_), 1'000'000u);
}

TEST_F(CgroupTest, PidNamespaceIsFencedWithoutACgroup) {
  auto sandbox = start_sandbox(shell_spec("sleep 1000 & exec sleep 1000"));
  ASSERT_TRUE(sandbox.has_value()) << sandbox.error().text;
  const ControlPacket go{.kind = Control::go};
  ASSERT_EQ(::send(sandbox->control.get(), &go, sizeof go, 0), static_cast<ssize_t>(sizeof go));
  (void)read_fd(sandbox->report.get());
  EXPECT_TRUE(populated(sandbox->pid_namespace));
  EXPECT_TRUE(kill_pid_namespace(sandbox->pid_namespace, 5'000).has_value());
  EXPECT_FALSE(populated(sandbox->pid_namespace));
}

// The kernel gives the numbers of what is gone to others: a stranger with the same pid is none of ours.
TEST_F(CgroupTest, AStrangerWithTheNamespacesPidIsLeftAlone) {
  auto sandbox = start_sandbox(shell_spec("exec sleep 1000"));
  ASSERT_TRUE(sandbox.has_value()) << sandbox.error().text;
  const PidNamespace own = sandbox->pid_namespace;
  ASSERT_TRUE(own.known());
  EXPECT_EQ(pid_namespace_from(to_text(own)), own);
  const PidNamespace before{.init = own.init, .started = own.started - 1};
  EXPECT_FALSE(populated(before));
  EXPECT_TRUE(kill_pid_namespace(before, 5'000).has_value());
  EXPECT_TRUE(populated(own));
  for (const char* text : {"", "7", "7 ", "x 7", "-7 7", "0 7", "7 7 7", "7  7", "99999999999 1"})
    EXPECT_FALSE(pid_namespace_from(text).known()) << text;
}

TEST_F(CgroupTest, GuardsOfTheReferenceMachineAreAllPresent) {
  make_group({});
  for (const Guard& guard : probe_guards(to_json(parents_))) {
    EXPECT_TRUE(guard.present) << guard.name << ": " << guard.finding;
    // Part of the host's record, whose digest names the machine: nothing of this one start.
    EXPECT_EQ(guard.finding.find("probe-"), std::string::npos) << guard.finding;
  }
  const auto none = probe_guards(to_json(CgroupParents{}));
  for (const Guard& guard : none)
    if (guard.name == "memory" || guard.name == "devices") {
      EXPECT_FALSE(guard.present);
      EXPECT_FALSE(guard.mend.empty());
    }
}

}  // namespace
}  // namespace loam::sandbox
