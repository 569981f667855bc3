// One test per guard; each fails when its guard is taken away.
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>

#include "base/text.h"
#include "sandbox/sandbox_fixture.h"

namespace loam::sandbox {
namespace {

// Calls a system call by number and prints its name and errno.
constexpr const char* kCallPrelude =
    "import ctypes\n"
    "libc = ctypes.CDLL(None, use_errno=True)\n"
    "def call(name, number, *arguments):\n"
    "  result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in arguments])\n"
    "  print(name, ctypes.get_errno() if result == -1 else 0)\n";

std::string call_line(const char* name, long number, const std::string& arguments = "0,0,0,0,0") {
  return std::string("call('") + name + "'," + std::to_string(number) + "," + arguments + ")\n";
}

using GuardTest = SandboxTest;

TEST_F(GuardTest, IdsAreTheUsersAndNothingElse) {
  Spec spec = shell_spec("grep -E '^(Uid|Gid|Groups)' /proc/self/status");
  spec.ids.groups = {1234};
  const Ran ran = run(spec);
  EXPECT_EQ(ran.output,
            "Uid:\t65533\t65533\t65533\t65533\nGid:\t65533\t65533\t65533\t65533\nGroups:\t1234 \n");
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
  for (const std::string& name : *names) {
    struct stat status {};
    if (::stat(("/proc/" + name + "/ns/pid").c_str(), &status) != 0 ||
        status.st_ino != sandbox->pid_namespace)
      continue;
    const auto text = read_file("/proc/" + name + "/status");
    ++seen;
    EXPECT_NE(text->find("\nUid:\t65533\t65533\t65533\t65533\n"), std::string::npos) << *text;
  }
  EXPECT_GE(seen, 2);
}

TEST_F(GuardTest, DangerousCallsAreRefused) {
  const std::pair<const char*, long> calls[] = {{"mount", SYS_mount},
                                                {"umount2", SYS_umount2},
                                                {"unshare", SYS_unshare},
                                                {"setns", SYS_setns},
                                                {"bpf", SYS_bpf},
                                                {"keyctl", SYS_keyctl},
                                                {"add_key", SYS_add_key},
                                                {"io_uring_setup", SYS_io_uring_setup},
                                                {"perf_event_open", SYS_perf_event_open},
                                                {"userfaultfd", SYS_userfaultfd},
                                                {"open_tree", SYS_open_tree},
                                                {"move_mount", SYS_move_mount},
                                                {"fsopen", SYS_fsopen},
                                                {"mount_setattr", SYS_mount_setattr},
                                                {"pivot_root", SYS_pivot_root},
                                                {"chroot", SYS_chroot},
                                                {"kexec_load", SYS_kexec_load},
                                                {"init_module", SYS_init_module},
                                                {"reboot", SYS_reboot},
                                                {"swapon", SYS_swapon},
                                                {"syslog", SYS_syslog},
                                                {"open_by_handle_at", SYS_open_by_handle_at}};
  std::string script = kCallPrelude, expected;
  for (const auto& [name, number] : calls) {
    script += call_line(name, number);
    expected += std::string(name) + " 1\n";
  }
  EXPECT_EQ(run(python_spec(script)).output, expected);
}

TEST_F(GuardTest, UnknownCallsAndClone3AnswerThatTheyDoNotExist) {
  const Ran ran =
      run(python_spec(kCallPrelude + call_line("clone3", SYS_clone3) + call_line("unknown", 999)));
  EXPECT_EQ(ran.output, "clone3 38\nunknown 38\n");
}

TEST_F(GuardTest, CloneWithNewNamespacesIsRefused) {
  const Ran ran =
      run(python_spec(kCallPrelude + call_line("newuser", SYS_clone, "0x10000011,0,0,0,0") +
                      call_line("newns", SYS_clone, "0x00020011,0,0,0,0")));
  EXPECT_EQ(ran.output, "newuser 1\nnewns 1\n");
}

TEST_F(GuardTest, SocketFamiliesAlgAndVsockAreRefused) {
  const Ran ran = run(python_spec(
      "import socket\n"
      "for family in (38, 40, 1, 2, 16):\n"
      "  try: socket.socket(family, socket.SOCK_DGRAM if family != 38 else 5); print('ok')\n"
      "  except OSError as e: print(e.errno)\n"));
  EXPECT_EQ(ran.output, "1\n1\nok\nok\nok\n");
}

TEST_F(GuardTest, NothingIsTypedIntoATerminal) {
  // Twice: the kernel looks at 32 bits of the request only.
  const Ran ran =
      run(python_spec(std::string(kCallPrelude) + call_line("sti", SYS_ioctl, "0,0x5412,0") +
                      call_line("sti-high", SYS_ioctl, "0,0x100005412,0") +
                      call_line("linux", SYS_ioctl, "0,0x541c,0")));
  EXPECT_EQ(ran.output, "sti 1\nsti-high 1\nlinux 1\n");
}

TEST_F(GuardTest, NumaCallsWork) {
  const Ran ran = run(python_spec(kCallPrelude + call_line("get_mempolicy", SYS_get_mempolicy)));
  EXPECT_EQ(ran.output, "get_mempolicy 0\n");
}

TEST_F(GuardTest, ThirtyTwoBitCallsDoNotExist) {
  const Ran ran = run(python_spec(kCallPrelude + call_line("x32 getpid", 0x40000000 + SYS_getpid)));
  EXPECT_EQ(ran.output, "x32 getpid 38\n");
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
      "grep -E ' (/proc/sys|/sys|/proc/irq) ' /proc/mounts | cut -d' ' -f2,4 | cut -c1-14"));
  EXPECT_EQ(ran.output, "/sys ro,nosuid\n/proc/irq ro,n\n/proc/sys ro,n\n");
}

TEST_F(GuardTest, PathsThatTellOfTheHostAreEmpty) {
  const Ran ran = run(shell_spec(
      "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c; ls -A /sys/firmware"));
  EXPECT_EQ(ran.output, "0\n");
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

TEST_F(GuardTest, CpuIsLimited) {
  make_group({.cpu_milli = 100});
  Spec spec = python_spec(
      "import time\nstart = time.process_time()\nend = time.monotonic() + 1\n"
      "while time.monotonic() < end: pass\n"
      "print(time.process_time() - start < 0.6)\n");
  spec.cgroup = cgroup_;
  EXPECT_EQ(run(spec).output, "True\n");
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

TEST_F(GuardTest, NothingOfTheKeeperIsInherited) {
  const Fd leaked(::open("/", O_RDONLY | O_DIRECTORY));  // not CLOEXEC, as a careless keeper's
  ASSERT_TRUE(leaked.valid());
  const Ran ran = run(shell_spec("exec ls /proc/self/fd"));
  EXPECT_EQ(ran.output, "0\n1\n2\n3\n");  // 3: ls reading the folder
  const Ran environment =
      run(shell_spec("exec cat /proc/self/environ | tr '\\0' '\\n' | grep -v -E '^(PATH|PWD)='"));
  EXPECT_EQ(environment.output, "");
}

TEST_F(GuardTest, TheKeepersProgramCannotBeOverwritten) {
  // CVE-2019-5736: through /proc/PID/exe of a process that runs the keeper's own file.
  const Ran ran =
      run(python_spec("import os\n"
                      "for pid in ('1', 'self'):\n"
                      "  for mode in (os.O_WRONLY, os.O_RDONLY):\n"
                      "    try: print(pid, os.open('/proc/%s/exe' % pid, mode) >= 0, mode)\n"
                      "    except OSError as e: print(pid, e.errno)\n"));
  EXPECT_EQ(ran.output.substr(0, 10), "1 13\n1 13\n") << ran.output;
}

TEST_F(GuardTest, OrphansDieWithTheUsersProcess) {
  auto sandbox = start_sandbox(shell_spec("setsid sleep 1000 & setsid sleep 1000 & true"));
  ASSERT_TRUE(sandbox.has_value()) << sandbox.error().text;
  const ControlPacket go{.kind = Control::go};
  ASSERT_EQ(::send(sandbox->control.get(), &go, sizeof go, 0), static_cast<ssize_t>(sizeof go));
  ASSERT_TRUE(sandbox->init.wait().has_value());
  EXPECT_FALSE(pid_namespace_populated(sandbox->pid_namespace));
}

TEST_F(GuardTest, EverythingDiesWithTheKeeper) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const pid_t keeper = ::fork();
  if (keeper == 0) {
    auto sandbox = start_sandbox(shell_spec("setsid sleep 1000 & exec sleep 1000"));
    const ControlPacket go{.kind = Control::go};
    (void)!::send(sandbox->control.get(), &go, sizeof go, 0);
    (void)read_fd(sandbox->report.get());
    (void)!::write(ends[1], &sandbox->pid_namespace, sizeof sandbox->pid_namespace);
    for (;;) ::pause();
  }
  std::uint64_t inode = 0;
  ASSERT_EQ(::read(ends[0], &inode, sizeof inode), static_cast<ssize_t>(sizeof inode));
  EXPECT_TRUE(pid_namespace_populated(inode));
  ::kill(keeper, SIGKILL);
  ASSERT_EQ(::waitpid(keeper, nullptr, 0), keeper);
  for (int tries = 0; tries < 500 && pid_namespace_populated(inode); ++tries) ::usleep(10'000);
  EXPECT_FALSE(pid_namespace_populated(inode));
}

// The value is made by another process: init is a fork of this one, whose memory must not hold it
// either.
TEST_F(GuardTest, SecretsReachTheUsersProcessAlone) {
  const std::string file = folder_ + "/secrets";
  const auto made = run_collect(
      {.argv = {
           "/bin/sh", "-c",
           "umask 077; echo \"{\\\"TOKEN\\\":\\\"$(cat /proc/sys/kernel/random/uuid)\\\"}\" > " +
               file}});
  ASSERT_TRUE(made.has_value() && made->ok());
  Spec spec = shell_spec("exec sleep 1000");
  spec.secrets_file = file;
  auto sandbox = start_sandbox(spec);
  ASSERT_TRUE(sandbox.has_value()) << sandbox.error().text;
  const ControlPacket go{.kind = Control::go};
  ASSERT_EQ(::send(sandbox->control.get(), &go, sizeof go, 0), static_cast<ssize_t>(sizeof go));
  ASSERT_EQ(read_fd(sandbox->report.get()).value(), std::string(1, kStartedMark));
  const auto found = run_collect({.argv = {"/usr/bin/python3", "-c", R"(
import json, os, sys
needle = json.load(open(sys.argv[1]))['TOKEN'].encode()
def hits(pid):
  count = 0
  with open('/proc/%s/mem' % pid, 'rb', 0) as memory:
    for line in open('/proc/%s/maps' % pid):
      low, high = (int(x, 16) for x in line.split()[0].split('-'))
      if '[v' in line or line.split()[1][0] != 'r': continue
      memory.seek(low)
      count += memory.read(high - low).count(needle)
  return count
init = sys.argv[2]
user = open('/proc/%s/task/%s/children' % (init, init)).read().split()[0]
print(hits(init), hits(user) > 0, hits(os.getppid()))
)",
                                           file, std::to_string(sandbox->init.pid())}});
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->standard_output, "0 True 0\n") << found->standard_error;
}

TEST_F(GuardTest, SecretsAreInTheEnvironment) {
  Spec spec = shell_spec("echo $TOKEN; cat /proc/1/environ 2>&1 | grep -c s3cr3t");
  spec.secrets_file = write("secrets", R"({"TOKEN":"s3cr3t-value"})", 0600);
  EXPECT_EQ(run(spec).output, "s3cr3t-value\n0\n");
}

}  // namespace
}  // namespace loam::sandbox
