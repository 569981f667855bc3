#include "sandbox/build.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/files.h"

namespace loam::sandbox {
namespace {

constexpr IdRange kRange{.first = 300'000, .count = 65'536};

struct Ran {
  int status = -1;
  std::string output;
};

// Runs `script` as a build step and collects what it wrote.
Ran run_step(BuildCommand command, const std::string& script) {
  command.argv = {"/bin/sh", "-c", script};
  command.environment = {{"PATH", "/usr/sbin:/usr/bin:/sbin:/bin"}};
  command.uids = command.gids = kRange;
  auto output = make_pipe();
  EXPECT_TRUE(output.has_value());
  command.standard_output = command.standard_error = output->write_end.get();
  auto child = start_build(command);
  output->write_end.reset();
  if (!child) return {-1, child.error().text};
  Ran ran;
  ran.output = read_fd(output->read_end.get()).value();
  ran.status = child->wait().value();
  return ran;
}

class BuildTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0u) << "run as root: a guard that was not tried is not there";
    char path[] = "/tmp/loam-build-test.XXXXXX";
    ASSERT_NE(::mkdtemp(path), nullptr);
    folder_ = path;
    ::chmod(path, 0755);
  }
  void TearDown() override {
    if (!folder_.empty()) (void)remove_tree(folder_);
  }
  std::string folder_;
};

TEST_F(BuildTest, IsRootInsideAndTheRangeOutside) {
  const std::string out = folder_ + "/out";
  ASSERT_TRUE(give_folder(out, kRange, kRange).has_value());
  BuildCommand command;
  command.binds = {{out, "/build", true}};
  const Ran ran = run_step(command, "id -u; id -g; touch /build/made; chown 5:5 /build/made");
  EXPECT_EQ(ran.status, 0) << ran.output;
  EXPECT_EQ(ran.output, "0\n0\n");
  struct stat status {};
  ASSERT_EQ(::stat((out + "/made").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, kRange.first + 5);
}

TEST_F(BuildTest, HasNoNetworkButItsOwnLoopback) {
  const Ran ran =
      run_step({}, "grep -c : /proc/net/dev; ls /sys/class/net >/dev/null; cat /proc/net/dev");
  EXPECT_EQ(ran.output.substr(0, 2), "1\n") << ran.output;
  const Ran with = run_step({.network = true}, "readlink /proc/self/ns/net");
  char host[64] = {};
  ASSERT_GT(::readlink("/proc/self/ns/net", host, sizeof host - 1), 0);
  EXPECT_EQ(with.output, std::string(host) + "\n");
}

TEST_F(BuildTest, CannotWriteTheHostNorMakeItWritable) {
  const Ran ran = run_step(
      {}, "touch /etc/loam-made 2>&1; mount -o remount,bind,rw /etc 2>&1; touch /usr/x 2>&1; true");
  EXPECT_FALSE(path_exists("/etc/loam-made"));
  EXPECT_NE(ran.output.find("Read-only"), std::string::npos) << ran.output;
  const std::string file = folder_ + "/kept";
  ASSERT_TRUE(write_file_atomic(file, "kept", {.mode = 0666}).has_value());
  BuildCommand command;
  command.binds = {{folder_, "/given", false}};
  const Ran given = run_step(
      command, "mount -o remount,bind,rw /given; umount /given; echo changed > /given/kept");
  EXPECT_EQ(read_file(file).value(), "kept") << given.output;
}

TEST_F(BuildTest, SeesNoProcessOfTheHost) {
  const Ran ran = run_step({}, "cd /proc && ls -d [0-9]* | wc -l");
  EXPECT_EQ(ran.status, 0);
  EXPECT_LE(std::stoi(ran.output), 6) << ran.output;
}

TEST_F(BuildTest, HiddenPathsAreEmpty) {
  ASSERT_TRUE(write_file_atomic(folder_ + "/secret", "x", {.mode = 0644}).has_value());
  BuildCommand command;
  command.hidden = {"/root", "/var/lib"};
  const Ran ran = run_step(command, "ls -A /root /var/lib | grep -v : | grep -c .");
  EXPECT_EQ(ran.output, "0\n");
}

TEST_F(BuildTest, TreeIsOverlaidAndChangesVanish) {
  const std::string tree = folder_ + "/tree";
  for (const char* name : {"", "/bin", "/lib", "/lib64", "/usr"})
    ASSERT_TRUE(make_folders(tree + name, 0755).has_value());
  ASSERT_TRUE(write_file_atomic(tree + "/usr/mark", "tree", {.mode = 0644}).has_value());
  BuildCommand command;
  command.root = tree;
  command.binds = {{"/bin", "/bin", false}, {"/lib", "/lib", false}, {"/lib64", "/lib64", false}};
  const Ran ran = run_step(
      command, "read m < /usr/mark; echo $m; echo new > /usr/new && echo made; echo $HOSTNAME");
  EXPECT_EQ(ran.output.substr(0, 10), "tree\nmade\n") << ran.output;
  EXPECT_FALSE(path_exists(tree + "/usr/new"));
}

TEST_F(BuildTest, NoNewPrivilegesAndNoDescriptors) {
  // Not CLOEXEC, as a careless caller's; far up, where nothing else comes to lie.
  const Fd root(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const Fd leaked(::fcntl(root.get(), F_DUPFD, 50));
  ASSERT_TRUE(leaked.valid());
  const Ran ran = run_step({}, "grep NoNewPrivs /proc/self/status; exec ls /proc/self/fd");
  EXPECT_EQ(ran.output, "NoNewPrivs:\t1\n0\n1\n2\n3\n");  // 3: ls reading the folder
}

TEST_F(BuildTest, AProcessThatAsksToBeTracedGoesOn) {
  const Ran ran = run_step({}, "exec /usr/bin/python3 -c 'import ctypes, os\n"
                               "ctypes.CDLL(None).ptrace(0, 0, 0, 0)\n"
                               "os.execv(\"/bin/sh\", [\"sh\", \"-c\", \"echo executed; exit 7\"])'");
  EXPECT_EQ(ran.output, "executed\n");
  EXPECT_TRUE(WIFEXITED(ran.status) && WEXITSTATUS(ran.status) == 7) << ran.status;
}

TEST_F(BuildTest, EndOfTheHandleTakesEveryProcess) {
  BuildCommand command;
  command.argv = {"/bin/sh", "-c", "setsid sleep 1000 & exec sleep 1000"};
  command.environment = {{"PATH", "/usr/bin:/bin"}};
  command.uids = command.gids = kRange;
  auto child = start_build(command);
  ASSERT_TRUE(child.has_value()) << child.error().text;
  ASSERT_TRUE(child->signal(SIGKILL).has_value());
  ASSERT_TRUE(child->wait().has_value());
  for (int tries = 0; tries < 500; ++tries) {
    auto uids = run_collect({.argv = {"/bin/sh", "-c", "ps -o pid= -u 300000 | wc -l"}});
    ASSERT_TRUE(uids.has_value());
    if (std::stoi(uids->standard_output) == 0) return;
    ::usleep(10'000);
  }
  FAIL() << "processes of the build remain";
}

TEST_F(BuildTest, SaysWhatWentWrong) {
  BuildCommand command;
  command.argv = {"/no/such/program"};
  command.uids = command.gids = kRange;
  const auto child = start_build(command);
  ASSERT_FALSE(child.has_value());
  EXPECT_NE(child.error().text.find("/no/such/program"), std::string::npos) << child.error().text;
  command.uids = {0, 65'536};
  EXPECT_EQ(start_build(command).error().code, ErrorCode::invalid);
}

}  // namespace
}  // namespace loam::sandbox
