// The same sandbox from inside a user namespace, as a user's own node starts it: 0 and all ids but
// one are ids of a subordinate range, the job's id is itself.
#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>

#include <functional>

#include "base/json.h"
#include "sandbox/sandbox_fixture.h"
#include "sandbox/user_namespace.h"

namespace loam::sandbox {
namespace {

constexpr std::uint32_t kSubordinate = 500'000;

class RootlessTest : public SandboxTest {
 protected:
  // Runs the sandbox in a child that has entered a namespace with these maps and become `id` of it.
  Ran run_inside(const std::vector<IdMapLine>& lines, std::uint32_t id, const Spec& spec) {
    const auto user_namespace = make_user_namespace(lines, lines);
    EXPECT_TRUE(user_namespace.has_value());
    auto words = make_pipe();
    EXPECT_TRUE(words.has_value());
    const pid_t pid = ::fork();
    if (pid == 0) {
      if (::setns(user_namespace->get(), CLONE_NEWUSER) != 0 || ::setresgid(id, id, id) != 0 ||
          ::setresuid(id, id, id) != 0 || ::unshare(CLONE_NEWNS) != 0)
        ::_exit(1);
      ::prctl(PR_SET_DUMPABLE, 1);  // as an exec makes a node that is such a process
      const Ran ran = run(spec);
      Json missing = Json::array();
      for (const Missing& one : ran.missing) missing.push(one.guard);
      const Json told =
          Json::object({{"output", ran.output}, {"report", ran.report}, {"missing", missing}});
      (void)write_full(words->write_end.get(), told.dump());
      ::_exit(0);
    }
    words->write_end.reset();
    const auto told = Json::parse(read_fd(words->read_end.get()).value());
    EXPECT_EQ(::waitpid(pid, nullptr, 0), pid);
    if (!told) return {};
    Ran ran{.output = (*told)["output"].as_string(), .report = (*told)["report"].as_string()};
    for (const std::string& guard : (*told)["missing"].as_strings())
      ran.missing.push_back({guard, ""});
    return ran;
  }
  Ran run_rootless(const Spec& spec) {
    return run_inside({{0, kSubordinate, kTestId},
                       {kTestId, kTestId, 1},
                       {kTestId + 1, kSubordinate + kTestId, 2}},
                      0, spec);
  }
};

TEST_F(RootlessTest, JobIsTheUserAndNothingMore) {
  Spec spec = shell_spec(
      "id -u; grep ^Cap /proc/self/status | cut -f2 | sort -u; "
      "grep -E '^(NoNewPrivs|Seccomp:)' /proc/self/status; touch /etc/x 2>&1 | grep -o Read-only; "
      "head -c3 /dev/zero | wc -c; ls -A /project; touch /project/x && stat -c %u /project/x; "
      "cat /proc/1/environ 2>&1 | grep -o 'Permission denied'; cd /proc; ls -d [0-9]* | head -1");
  spec.own_network = true;
  const Ran ran = run_rootless(spec);
  EXPECT_EQ(ran.output,
            "65533\n0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nRead-only\n3\n65533\nPermission "
            "denied\n1\n")
      << ran.report;
  EXPECT_FALSE(ran.missing.empty());
}

TEST_F(RootlessTest, TreeAndProjectAreOverlaid) {
  for (const char* name : {"tree", "tree/usr", "tree/etc"}) make_folder(name, kSubordinate);
  for (const char* name : {"bin", "lib", "lib64"})
    ASSERT_EQ(::symlink((std::string("usr/") + name).c_str(), (folder_ + "/tree/" + name).c_str()),
              0);
  make_folder("snapshot", kTestId);
  ASSERT_EQ(::chown(write("snapshot/code", "code\n").c_str(), kTestId, kTestId), 0);
  Spec spec = shell_spec(
      "cat /project/code; echo more >> /project/code; rm -r /project/code && mkdir /project/made; "
      "ls /project; echo new > /new && cat /new");
  spec.root_tree = folder_ + "/tree";
  spec.binds = {{.from = "/usr", .to = "/usr"}};
  spec.project_tree = folder_ + "/snapshot";
  spec.project_upper = make_folder("upper", kSubordinate, 0700);
  const Ran ran = run_rootless(spec);
  EXPECT_EQ(ran.output, "code\nmade\nnew\n") << ran.report;
  struct stat status {};
  ASSERT_EQ(::stat((folder_ + "/upper/upper/made").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, kTestId);
  EXPECT_EQ(read_file(folder_ + "/snapshot/code").value(), "code\n");
}

TEST_F(RootlessTest, WithOneIdTheHostsFilesStillWork) {
  const Ran ran = run_inside(
      {{kTestId, kTestId, 1}}, kTestId,
      shell_spec("id -u; grep ^Cap /proc/self/status | cut -f2 | sort -u; touch /project/x && "
                 "touch /usr/x 2>&1 | grep -o Read-only; "
                 "cat /proc/1/environ 2>&1 | grep -o 'Permission denied'"));
  // The last: here no change of ids makes init undumpable, only its own word does.
  EXPECT_EQ(ran.output, "65533\n0000000000000000\nRead-only\nPermission denied\n") << ran.report;
}

// Nodes cannot be made there: the host's are bound, with the host's rights.
TEST_F(RootlessTest, AssignedDevicesAreTheHostsAndNeedTheUsersOwnRight) {
  const std::string path = "/dev/loam-test-" + std::to_string(::getpid());
  ASSERT_EQ(::mknod(path.c_str(), S_IFCHR | 0666, 0xa00 | 229), 0);
  ASSERT_EQ(::chmod(path.c_str(), 0666), 0);
  Spec spec = shell_spec("exec 3<" + path + " && echo opens; ls /dev | grep -c -e fuse -e loop");
  spec.devices = {device_node_at(path).value()};
  EXPECT_EQ(run_rootless(spec).output, "opens\n0\n");
  ASSERT_EQ(::chmod(path.c_str(), 0600), 0);
  const Ran refused = run_rootless(spec);
  EXPECT_NE(refused.report.find(path + ": the job's user may not open it (Permission denied)"),
            std::string::npos)
      << refused.report << refused.output;
  ASSERT_EQ(::unlink(path.c_str()), 0);
  EXPECT_NE(run_rootless(spec).report.find("assigned devices: " + path + ": No such file"),
            std::string::npos);
}

}  // namespace
}  // namespace loam::sandbox
