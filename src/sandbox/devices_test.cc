// Assigned devices and pinned CPUs: what a job gets is there and opens, what it does not get is
// absent and refused.
#include <fcntl.h>
#include <sys/sysmacros.h>

#include "base/text.h"
#include "sandbox/cpuset.h"
#include "sandbox/sandbox_fixture.h"

namespace loam::sandbox {
namespace {

constexpr unsigned kMisc = 10, kFuse = 229, kLoopControl = 237;  // devices.txt (Linux)

// What each path answers to an open for reading; access() where the mount's nodev would refuse it.
std::string open_script(const std::string& paths) {
  return "import os, errno\n"
         "for path in " + paths + ".split():\n"
         "  try:\n"
         "    os.close(os.open(path, os.O_RDONLY)); print(path, 'opens')\n"
         "  except OSError as error: print(path, errno.errorcode[error.errno])\n";
}

class DevicesTest : public SandboxTest {
 protected:
  void TearDown() override {
    for (const std::string& node : nodes_) (void)::unlink(node.c_str());
    SandboxTest::TearDown();
  }
  // A device of the host's /dev that everybody may open.
  DeviceNode host_node(const std::string& name, unsigned minor_number, mode_t mode = 0666) {
    const std::string path = "/dev/loam-test-" + std::to_string(::getpid()) + "-" + name;
    EXPECT_EQ(::mknod(path.c_str(), S_IFCHR | mode, makedev(kMisc, minor_number)), 0);
    EXPECT_EQ(::chmod(path.c_str(), mode), 0);
    nodes_.push_back(path);
    const auto node = device_node_at(path);
    EXPECT_TRUE(node);
    return node.value_or(DeviceNode{});
  }
  std::vector<std::string> nodes_;
};

TEST_F(DevicesTest, TheAssignedOneAloneIsThereAndOpens) {
  make_group({});
  Spec spec = python_spec(open_script("'/dev/fuse /dev/loop-control /dev/kmsg /dev/null'") +
                          "status = os.stat('/dev/fuse')\n"
                          "print(status.st_uid, oct(status.st_mode), 'fuse' in os.listdir('/dev'))\n");
  spec.cgroup = cgroup_;
  spec.devices = {{"/dev/fuse", false, kMisc, kFuse}};
  const Ran ran = run(spec);
  EXPECT_EQ(ran.output,
            "/dev/fuse opens\n/dev/loop-control ENOENT\n/dev/kmsg ENOENT\n/dev/null opens\n"
            "0 0o20666 True\n")
      << ran.report;
}

TEST_F(DevicesTest, TheProgramOpensTheAssignedOneAndNotItsNeighbours) {
  make_group({});
  const std::string data = make_folder("data", kTestId);
  for (const unsigned number : {kFuse, kLoopControl}) {
    const std::string path = data + "/" + std::to_string(number);
    ASSERT_EQ(::mknod(path.c_str(), S_IFCHR | 0666, makedev(kMisc, number)), 0);
    ASSERT_EQ(::chmod(path.c_str(), 0666), 0);
  }
  ASSERT_EQ(::mknod((data + "/block").c_str(), S_IFBLK | 0666, makedev(kMisc, kFuse)), 0);
  ASSERT_EQ(::chmod((data + "/block").c_str(), 0666), 0);
  Spec spec = python_spec("import os; print([os.access('/data/' + n, os.R_OK) for n in "
                          "('229', '237', 'block')])");
  spec.cgroup = cgroup_;
  spec.binds = {{.from = data, .to = "/data"}};
  spec.devices = {{"/dev/fuse", false, kMisc, kFuse}};
  EXPECT_EQ(run(spec).output, "[True, False, False]\n");
}

TEST_F(DevicesTest, FoldersOfDevicesAreMade) {
  Spec spec = python_spec(open_script("'/dev/accel/unit0/control'"));
  spec.devices = {{"/dev/accel/unit0/control", false, kMisc, kFuse}};
  EXPECT_EQ(run(spec).output, "/dev/accel/unit0/control opens\n");
}

TEST_F(DevicesTest, AV1WhitelistDoesTheSame) {
  const std::string folder =
      "/sys/fs/cgroup/devices/loam-test-" + std::to_string(::getpid());
  if (::mkdir(folder.c_str(), 0755) != 0) GTEST_SKIP() << "no v1 devices hierarchy here";
  cgroup_.v1 = {{"devices", folder}};
  Spec spec = python_spec(open_script("'/dev/fuse /dev/null'") +
                          "print(os.access('/data/loop', os.R_OK))\n");
  const std::string data = make_folder("data", kTestId);
  ASSERT_EQ(::mknod((data + "/loop").c_str(), S_IFCHR | 0666, makedev(kMisc, kLoopControl)), 0);
  ASSERT_EQ(::chmod((data + "/loop").c_str(), 0666), 0);
  spec.binds = {{.from = data, .to = "/data"}};
  spec.cgroup = cgroup_;
  spec.devices = {{"/dev/fuse", false, kMisc, kFuse}};
  const Ran ran = run(spec);
  EXPECT_EQ(ran.output, "/dev/fuse opens\n/dev/null opens\nFalse\n") << ran.report;
  for (const Missing& one : ran.missing) EXPECT_NE(one.guard, "devices") << one.reason;
}

TEST_F(DevicesTest, WhatIsNoDeviceIsRefused) {
  EXPECT_EQ(device_node_at("/dev/nothing-here").error().code, ErrorCode::not_found);
  EXPECT_EQ(device_node_at("/etc/passwd").error().text, "/etc/passwd: is no device");
  const auto null = device_node_at("/dev/null");
  ASSERT_TRUE(null);
  EXPECT_EQ(*null, (DeviceNode{"/dev/null", false, 1, 3}));
}

std::string allowed_cpus(const Ran& ran) { return std::string(trim(ran.output)); }
constexpr const char* kAllowed = "grep ^Cpus_allowed_list /proc/self/status | cut -f2";

TEST_F(DevicesTest, APinnedJobHasItsCpusAndCannotChooseOthers) {
  if (::sysconf(_SC_NPROCESSORS_ONLN) < 2) GTEST_SKIP() << "one CPU";
  make_group({.cpu_set = {.cpus = {1}, .memory_nodes = {0}, .pinned = true}});
  Spec spec = shell_spec(std::string(kAllowed) + "; taskset -p 1 $$ >/dev/null 2>&1 || echo refused");
  spec.cgroup = cgroup_;
  spec.cpu_set = {.cpus = {1}, .memory_nodes = {0}, .pinned = true};
  const Ran ran = run(spec);
  EXPECT_EQ(ran.output, "1\nrefused\n") << ran.report;
  for (const Missing& one : ran.missing) EXPECT_NE(one.guard, "pinning");
}

TEST_F(DevicesTest, WithoutACpusetItsAffinityIsSetAndCalledNotEnforced) {
  if (::sysconf(_SC_NPROCESSORS_ONLN) < 2) GTEST_SKIP() << "one CPU";
  Spec spec = shell_spec(kAllowed);
  spec.cpu_set = {.cpus = {1}, .memory_nodes = {0}, .pinned = true};
  const Ran ran = run(spec);
  EXPECT_EQ(allowed_cpus(ran), "1") << ran.report;
  bool told = false;
  for (const Missing& one : ran.missing)
    told = told || (one.guard == "pinning" && one.reason.ends_with("not enforced"));
  EXPECT_TRUE(told);
}

// In a child: what joins the shared group is moved off the pinned CPUs and back.
TEST_F(DevicesTest, TheOthersLeaveThePinnedCpus) {
  if (::sysconf(_SC_NPROCESSORS_ONLN) < 2) GTEST_SKIP() << "one CPU";
  make_group({});
  if (parents_.v1_on_demand.empty()) GTEST_SKIP() << "no v1 cpuset hierarchy here";
  auto words = make_pipe();
  ASSERT_TRUE(words);
  const pid_t pid = ::fork();
  if (pid == 0) {
    std::string told;
    const auto look = [&] {
      const auto text = read_file("/proc/self/status");
      const auto at = text->find("Cpus_allowed_list:\t") + 19;
      told += text->substr(at, text->find('\n', at) - at) + " ";
    };
    if (auto joined = join_shared_cpus(parents_); !joined) told += joined.error().text;
    if (auto set = set_shared_cpus(parents_, {0}, {}); !set) told += set.error().text;
    look();
    if (auto set = set_shared_cpus(parents_, {}, {}); !set) told += set.error().text;
    look();
    (void)write_full(words->write_end.get(), told);
    words->write_end.reset();
    ::pause();
    ::_exit(0);
  }
  words->write_end.reset();
  const auto online = read_file("/sys/devices/system/cpu/online");
  EXPECT_EQ(read_fd(words->read_end.get()).value(), "0 " + std::string(trim(*online)) + " ");
  ASSERT_TRUE(remove_cgroup(cgroup_));
  remove_cgroup_parents(parents_);  // with a member that stays
  for (const auto& [controller, folder] : parents_.v1_on_demand)
    EXPECT_FALSE(path_exists(folder + "/" + kSharedCpus)) << controller;
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  ASSERT_EQ(::waitpid(pid, nullptr, 0), pid);
}

// Without v1 cpusets and without v2's controller: the running threads of every other attempt.
TEST_F(DevicesTest, ThreadsAreMovedWhereThereIsNoCpuset) {
  if (::sysconf(_SC_NPROCESSORS_ONLN) < 2) GTEST_SKIP() << "one CPU";
  make_group({});
  ASSERT_FALSE(cgroup_.v2.empty());
  if (path_exists(cgroup_.v2 + "/cpuset.cpus")) GTEST_SKIP() << "v2 has cpusets here";
  auto sandbox = start_sandbox([&] {
    Spec spec = shell_spec("exec sleep 1000");
    spec.cgroup = cgroup_;
    return spec;
  }());
  ASSERT_TRUE(sandbox) << sandbox.error().text;
  const CgroupParents without{parents_.v2, false, {}, {}};
  const auto affinity = [&] {
    cpu_set_t set;
    CPU_ZERO(&set);
    EXPECT_EQ(::sched_getaffinity(sandbox->init.pid(), sizeof set, &set), 0);
    return CPU_COUNT(&set);
  };
  ASSERT_TRUE(set_shared_cpus(without, {0}, {"one"}));
  EXPECT_GT(affinity(), 1);  // it is a pinned one's: left alone
  ASSERT_TRUE(set_shared_cpus(without, {0}, {}));
  EXPECT_EQ(affinity(), 1);
  ASSERT_TRUE(set_shared_cpus(without, {}, {}));
  EXPECT_GT(affinity(), 1);
}

class HugePagesTest : public SandboxTest {
 protected:
  static constexpr const char* kPool = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
  void SetUp() override {
    SandboxTest::SetUp();
    before_ = read_file(kPool).value_or("");
    if (before_.empty()) GTEST_SKIP() << "no pages of 2 MiB here";
    set_pool(std::to_string(std::strtol(before_.c_str(), nullptr, 10) + 4));
    if (read_file(kPool).value_or("") == before_) GTEST_SKIP() << "the kernel has no room for more";
  }
  void TearDown() override {
    if (!before_.empty()) set_pool(std::string(trim(before_)));
    SandboxTest::TearDown();
  }
  static void set_pool(const std::string& count) {
    const Fd pool(::open(kPool, O_WRONLY | O_CLOEXEC));
    (void)!::write(pool.get(), count.data(), count.size());
  }
  std::string before_;
};

TEST_F(HugePagesTest, AFolderOfThemAndNoMoreThanWereAskedFor) {
  constexpr std::uint64_t kPage = 2u << 20;
  make_group({.huge_page_bytes = kPage, .huge_bytes = 2 * kPage});
  Spec spec = python_spec(
      "import mmap, os, sys\n"
      "fd = os.open('/dev/hugepages/data', os.O_CREAT | os.O_RDWR)\n"
      "os.ftruncate(fd, 2 << 20); m = mmap.mmap(fd, 2 << 20); m[0] = 1; print('one')\n"
      "h = mmap.mmap(-1, 2 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)\n"
      "h[0] = 1; print('two'); sys.stdout.flush()\n"
      "g = mmap.mmap(-1, 2 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)\n"
      "g[0] = 1; print('three')\n");
  spec.cgroup = cgroup_;
  spec.huge_page_bytes = kPage;
  spec.huge_bytes = 2 * kPage;
  const Ran ran = run(spec);
  EXPECT_EQ(ran.output, "one\ntwo\n") << ran.report;
  EXPECT_TRUE(WIFSIGNALED(ran.status) && WTERMSIG(ran.status) == SIGBUS) << ran.status;
  for (const Missing& one : ran.missing) EXPECT_NE(one.guard, "hugepages") << one.reason;
}

}  // namespace
}  // namespace loam::sandbox
