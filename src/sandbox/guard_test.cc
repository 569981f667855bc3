// One test per guard; each fails when its guard is taken away.
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "base/text.h"
#include "sandbox/sandbox_fixture.h"

namespace loam::sandbox {
namespace {

using GuardTest = SandboxTest;

TEST_F(GuardTest, IdsAreTheUsersAndNothingElse) {
  Spec spec = shell_spec("grep -E '^(Uid|Gid|Groups)' /proc/self/status");
  spec.ids.groups = {1234};
  const Ran ran = run(spec);
  EXPECT_EQ(ran.output,
            "Uid:\t65533\t65533\t65533\t65533\nGid:\t65533\t65533\t65533\t65533\nGroups:\t1234 \n");
}

TEST(GuardDeathTest, NobodyStartsAJobAsRoot) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  Spec spec = shell_spec("true");
  spec.ids.uid = 0;
  EXPECT_DEATH((void)start_sandbox(spec), "");
  spec.ids = {.uid = kTestId, .gid = 0, .groups = {}};
  EXPECT_DEATH((void)start_sandbox(spec), "");
}

// How many hold the keyring of that name, as the kernel counts (/proc/keys, its third column).
int holders_of_keyring(const std::string& name) {
  const auto keys = read_file("/proc/keys");
  for (const std::string& line : split(keys.value_or(""), '\n')) {
    if (line.find(" " + name + ":") == std::string::npos) continue;
    std::vector<std::string> words;
    for (const std::string& word : split(line, ' '))
      if (!word.empty()) words.push_back(word);
    return words.size() > 2 ? ::atoi(words[2].c_str()) : -1;
  }
  return -1;
}

// The keeper's session keyring would be the job's by possession, and with it the keys in it.
TEST_F(GuardTest, TheKeepersKeyringIsNotTheJobs) {
  const std::string name = "loam-test-" + std::to_string(::getpid());
  ASSERT_GT(::syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.c_str()), 0);
  const int before = holders_of_keyring(name);
  ASSERT_GT(before, 0);
  auto sandbox = start_sandbox(shell_spec("exec sleep 1000"));
  ASSERT_TRUE(sandbox.has_value()) << sandbox.error().text;
  const ControlPacket go{.kind = Control::go};
  ASSERT_EQ(::send(sandbox->control.get(), &go, sizeof go, 0), static_cast<ssize_t>(sizeof go));
  ASSERT_EQ(read_fd(sandbox->report.get()).value(), std::string(1, kStartedMark));
  // What init held before it left is let go of in the kernel's own time.
  for (int i = 0; i < 200 && holders_of_keyring(name) != before; ++i) ::usleep(20'000);
  EXPECT_EQ(holders_of_keyring(name), before);
}

TEST_F(GuardTest, NoCapabilityInAnySet) {
  const Ran ran = run(shell_spec("grep ^Cap /proc/self/status | cut -f2 | sort -u"));
  EXPECT_EQ(ran.output, "0000000000000000\n");
}

TEST_F(GuardTest, NoNewPrivilegesAndSeccompAreSet) {
  const Ran ran = run(shell_spec("grep -E '^(NoNewPrivs|Seccomp:)' /proc/self/status"));
  EXPECT_EQ(ran.output, "NoNewPrivs:\t1\nSeccomp:\t2\n");
}

// Which processes the kernel itself sees: none of the sandbox's has uid 0 once the job runs.
TEST_F(GuardTest, KernelUidZeroNeverAppears) {
  auto sandbox = start_sandbox(shell_spec("sleep 1000 & exec sleep 1000"));
  ASSERT_TRUE(sandbox.has_value()) << sandbox.error().text;
  const ControlPacket go{.kind = Control::go};
  ASSERT_EQ(::send(sandbox->control.get(), &go, sizeof go, 0), static_cast<ssize_t>(sizeof go));
  ASSERT_EQ(read_fd(sandbox->report.get()).value(), std::string(1, kStartedMark));
  int seen = 0;
  const auto names = list_folder("/proc");
  ASSERT_TRUE(names.has_value());
  const auto namespace_of = [](const std::string& pid) {
    struct stat status {};
    return ::stat(("/proc/" + pid + "/ns/pid").c_str(), &status) == 0 ? status.st_ino : 0;
  };
  const auto own = namespace_of(std::to_string(sandbox->init.pid()));
  ASSERT_NE(own, 0U);
  for (const std::string& name : *names) {
    if (namespace_of(name) != own) continue;
    const auto text = read_file("/proc/" + name + "/status");
    ++seen;
    EXPECT_NE(text->find("\nUid:\t65533\t65533\t65533\t65533\n"), std::string::npos) << *text;
  }
  EXPECT_GE(seen, 2);
}

TEST_F(GuardTest, NamespacesAreTheSandboxsOwn) {
  const auto links = [](const std::string& names) {
    return "for n in " + names + "; do readlink /proc/self/ns/$n; done";
  };
  const auto host = run_collect({.argv = {"/bin/sh", "-c", links("mnt pid ipc uts net")}});
  ASSERT_TRUE(host.has_value());
  Spec spec = shell_spec(links("mnt pid ipc uts net"));
  spec.own_network = true;
  const auto inside = split(run(spec).output, '\n'), outside = split(host->standard_output, '\n');
  ASSERT_EQ(inside.size(), 6u);
  ASSERT_EQ(outside.size(), 6u);
  for (std::size_t i = 0; i < 5; ++i) EXPECT_NE(inside[i], outside[i]);
}

// The keeper's inheritable set survives a change of ids, and would be the job's.
TEST_F(GuardTest, NoCapabilityOfTheKeeperIsInherited) {
  auto words = make_pipe();
  ASSERT_TRUE(words.has_value());
  const pid_t pid = ::fork();
  if (pid == 0) {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    __user_cap_data_struct data[2]{};
    bool set = ::syscall(SYS_capget, &header, data) == 0;
    for (auto& half : data) half.inheritable = half.permitted;
    set = set && ::syscall(SYS_capset, &header, data) == 0 &&
          ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0) == 0;
    const Ran ran = run(shell_spec("grep ^Cap /proc/self/status | cut -f2 | sort -u"));
    (void)write_full(words->write_end.get(), set ? ran.output : "not set");
    ::_exit(0);
  }
  words->write_end.reset();
  EXPECT_EQ(read_fd(words->read_end.get()).value(), "0000000000000000\n");
  ASSERT_EQ(::waitpid(pid, nullptr, 0), pid);
}

TEST_F(GuardTest, InitCannotBeTracedReadOrKilled) {
  const Ran ran = run(python_spec(
      std::string(kCallPrelude) + call_line("attach", SYS_ptrace, "16,1,0,0") +
      call_line("kill", SYS_kill, "1,9") +
      "for name in ('environ', 'mem', 'maps', 'exe', 'cwd', 'root', 'fd'):\n"
      "  try:\n"
      "    import os\n"
      "    path = '/proc/1/' + name\n"
      "    os.readlink(path) if name in ('exe','cwd','root') else (os.listdir(path) if name == "
      "'fd' else open(path).read())\n"
      "    print(name, 'readable')\n"
      "  except PermissionError: pass\n"
      "print(os.path.exists('/proc/1'))\n"));
  EXPECT_EQ(ran.output, "attach 1\nkill 0\nTrue\n");
}

TEST_F(GuardTest, OnlyTheSandboxsProcessesAreSeen) {
  const Ran ran =
      run(shell_spec("echo $$; cd /proc; ls -d [0-9]* | sort -n | head -2 | tr '\\n' ' '"));
  EXPECT_EQ(ran.output, "2\n1 2 ");
}

TEST_F(GuardTest, KernelSettingsAreReadOnly) {
  const Ran ran = run(shell_spec(
      "for f in /proc/sys/kernel/core_pattern /proc/sys/vm/drop_caches /sys/power/state; do "
      "[ -w $f ] && echo $f; done; "
      "for p in /sys /proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger; do "
      "if [ -e $p ]; then grep -q \" $p [a-z0-9]* ro,\" /proc/mounts && echo ok || echo $p; fi; "
      "done | sort -u"));
  EXPECT_EQ(ran.output, "ok\n");
}

TEST_F(GuardTest, PathsThatTellOfTheHostAreEmpty) {
  // Where this kernel has them: a mount of their own, and nothing in it.
  const Ran ran = run(shell_spec(
      "for p in /proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys "
      "/proc/latency_stats /proc/sched_debug /proc/scsi /proc/timer_list /proc/timer_stats "
      "/sys/firmware /sys/devices/virtual/powercap; do [ -e $p ] || continue; "
      "grep -q \" $p tmpfs ro,\" /proc/mounts || echo open $p; "
      "if [ -d $p ]; then ls -A $p; else cat $p; fi; done; echo done"));
  EXPECT_EQ(ran.output, "done\n");
}

TEST_F(GuardTest, DevicesAreTheHarmlessOnesAlone) {
  const Ran ran =
      run(shell_spec("ls /dev | tr '\\n' ' '; mknod /tmp/kmsg c 1 11 2>&1; echo x > /dev/null && "
                     "head -c1 /dev/zero | wc -c; touch /dev/made 2>&1"));
  EXPECT_EQ(ran.output,
            "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero "
            "mknod: /tmp/kmsg: Operation not permitted\n1\ntouch: cannot touch '/dev/made': "
            "Permission denied\n");
}

// A device file that is there all the same: the host's bound in, open to all.
TEST_F(GuardTest, DeviceProgramClosesWhatTheMountsLeftOpen) {
  make_group({});
  ASSERT_FALSE(cgroup_.v2.empty());
  ASSERT_EQ(::mknod((folder_ + "/kmsg").c_str(), S_IFCHR | 0666, 0x10b), 0);
  ASSERT_EQ(::chmod((folder_ + "/kmsg").c_str(), 0666), 0);
  // As root itself, in the group: the program, not the file's mode, refuses.
  Spec spec = shell_spec("true");
  spec.cgroup = cgroup_;
  ASSERT_TRUE(run(spec).started());
  const pid_t pid = ::fork();
  if (pid == 0) {
    const bool joined =
        Fd(::open((cgroup_.v2 + "/cgroup.procs").c_str(), O_WRONLY)).valid() &&
        ::write(::open((cgroup_.v2 + "/cgroup.procs").c_str(), O_WRONLY), "0", 1) == 1;
    const bool null_opens = ::open("/dev/null", O_RDWR) >= 0;
    const bool kmsg_opens = ::open((folder_ + "/kmsg").c_str(), O_RDONLY) >= 0;
    ::_exit(joined && null_opens && !kmsg_opens && errno == EPERM ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

// From inside a job. access() asks for the device as open() does, but not for the mount's nodev,
// which would hide what the program does.
TEST_F(GuardTest, DeviceProgramBindsTheJobItself) {
  make_group({});
  const std::string data = make_folder("data", kTestId);
  for (const auto& [name, number] : {std::pair("kmsg", 0x10b), std::pair("null", 0x103)}) {
    ASSERT_EQ(::mknod((data + "/" + name).c_str(), S_IFCHR | 0666, static_cast<dev_t>(number)), 0);
    ASSERT_EQ(::chmod((data + "/" + name).c_str(), 0666), 0);
  }
  Spec spec =
      python_spec(std::string(kCallPrelude) +
                  "for name in (b'/data/kmsg', b'/data/null'):\n"
                  "  ctypes.set_errno(0)\n"
                  "  print(name.decode(), ctypes.get_errno() if libc.access(name, 4) else 0)\n");
  spec.binds = {{.from = data, .to = "/data"}};
  const Ran open = run(spec);
  EXPECT_EQ(open.output, "/data/kmsg 0\n/data/null 0\n") << open.report;
  spec.cgroup = cgroup_;
  const Ran closed = run(spec);
  EXPECT_EQ(closed.output, "/data/kmsg 1\n/data/null 0\n") << closed.report;
}

TEST_F(GuardTest, ProcessesAreLimited) {
  make_group({.processes_max = 10});
  Spec spec = python_spec(
      "import os, time\n"
      "n = 0\n"
      "try:\n"
      "  while n < 50:\n"
      "    if os.fork() == 0: time.sleep(1000)\n"
      "    n += 1\n"
      "except BlockingIOError: print('limited at', n)\n");
  spec.cgroup = cgroup_;
  EXPECT_EQ(run(spec).output, "limited at 8\n");  // init and python are two of the ten
}

TEST_F(GuardTest, MemoryIsLimitedAndTheKillIsCounted) {
  make_group({.memory_bytes = 48u << 20});
  Spec spec = python_spec("x = bytearray(200 << 20)\nprint('had it')\n");
  spec.cgroup = cgroup_;
  spec.memory_bytes = 48u << 20;
  const Ran ran = run(spec);
  EXPECT_EQ(ran.output, "");
  EXPECT_TRUE(WIFSIGNALED(ran.status) && WTERMSIG(ran.status) == SIGKILL);
  EXPECT_GE(read_memory(cgroup_).oom_kills, 1u);
}

// By the kernel's own count: how much a busy machine gives a process says nothing.
TEST_F(GuardTest, CpuIsLimited) {
  make_group({.cpu_milli = 100});
  Spec spec = python_spec("import time\nwhile time.process_time() < 0.1: pass\n");
  spec.cgroup = cgroup_;
  EXPECT_TRUE(run(spec).started());
  std::string counts = read_file(cgroup_.v2 + "/cpu.stat").value_or("");
  for (const auto& [controller, folder] : cgroup_.v1)
    if (controller == "cpu") counts = read_file(folder + "/cpu.stat").value_or("");
  const auto at = counts.find("nr_throttled ");
  ASSERT_NE(at, std::string::npos) << counts;
  EXPECT_GT(std::stoul(counts.substr(at + 13)), 0u) << counts;
}

TEST_F(GuardTest, FilesInMemoryEndInNoSpaceNotInAKill) {
  make_group({.memory_bytes = 64u << 20});
  Spec spec = shell_spec(
      "dd if=/dev/zero of=/tmp/a bs=1M count=20 2>/dev/null; "
      "dd if=/dev/zero of=/run/b bs=1M count=50 2>&1 | grep -o 'No space'; "
      "dd if=/dev/zero of=/dev/shm/c bs=1M count=50 2>&1 | grep -o 'No space'");
  spec.cgroup = cgroup_;
  spec.memory_bytes = 64u << 20;
  EXPECT_EQ(run(spec).output, "No space\nNo space\n");
  EXPECT_EQ(read_memory(cgroup_).oom_kills, 0u);
}

TEST_F(GuardTest, NetworkNoneHasItsOwnLoopbackOnly) {
  Spec spec = python_spec(
      "import socket, os\n"
      "print(sorted(name for _, name in socket.if_nameindex()))\n"
      "s = socket.create_server(('127.0.0.1', 0))\n"
      "socket.create_connection(s.getsockname())\nprint('connected')\n");
  spec.own_network = true;
  EXPECT_EQ(run(spec).output, "['lo']\nconnected\n");
}

TEST_F(GuardTest, MasksHide) {
  write("secret", "x");
  const std::string inner = make_folder("state", 0);
  Spec spec = shell_spec("ls -A " + folder_ + "/state; cat " + folder_ + "/secret | wc -c");
  write("state/kept", "x");
  // /tmp is the sandbox's own: masks are tried on a bind of the folder.
  spec.binds = {{.from = folder_, .to = "/data"}};
  spec.argv[2] = "ls -A /data/state; cat /data/secret";
  const Ran seen = run(spec);
  EXPECT_EQ(seen.output, "kept\nx");
  Spec masked = shell_spec("ls -A /var/lib /etc/hostname; cat /etc/hostname | wc -c");
  masked.masks = {"/var/lib", "/etc/hostname", "/no/such/path"};
  EXPECT_EQ(run(masked).output, "/etc/hostname\n\n/var/lib:\n0\n");
}

}  // namespace
}  // namespace loam::sandbox
