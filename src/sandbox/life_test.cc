// Who holds what of whom: nothing of the keeper reaches the job, everything ends with either. Each
// test fails when its guard is taken away.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>

#include "base/text.h"
#include "sandbox/sandbox_fixture.h"

namespace loam::sandbox {
namespace {

using LifeTest = SandboxTest;

TEST_F(LifeTest, NothingOfTheKeeperIsInherited) {
  // Not CLOEXEC, as a careless keeper's; far up, where nothing else comes to lie.
  const Fd root(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const Fd leaked(::fcntl(root.get(), F_DUPFD, 50));
  ASSERT_TRUE(leaked.valid());
  const Ran ran = run(shell_spec("exec ls /proc/self/fd"));
  EXPECT_EQ(ran.output, "0\n1\n2\n3\n");  // 3: ls reading the folder
  const Ran environment =
      run(shell_spec("exec cat /proc/self/environ | tr '\\0' '\\n' | grep -v -E '^(PATH|PWD)='"));
  EXPECT_EQ(environment.output, "");
}

TEST_F(LifeTest, TheKeepersProgramCannotBeOverwritten) {
  // CVE-2019-5736: through /proc/PID/exe of a process that runs the keeper's own file.
  const Ran ran =
      run(python_spec("import os\n"
                      "for pid in ('1', 'self'):\n"
                      "  for mode in (os.O_WRONLY, os.O_RDONLY):\n"
                      "    try: print(pid, os.open('/proc/%s/exe' % pid, mode) >= 0, mode)\n"
                      "    except OSError as e: print(pid, e.errno)\n"));
  EXPECT_EQ(ran.output.substr(0, 10), "1 13\n1 13\n") << ran.output;
}

TEST_F(LifeTest, OrphansDieWithTheUsersProcess) {
  auto sandbox = start_sandbox(shell_spec("setsid sleep 1000 & setsid sleep 1000 & true"));
  ASSERT_TRUE(sandbox.has_value()) << sandbox.error().text;
  const ControlPacket go{.kind = Control::go};
  ASSERT_EQ(::send(sandbox->control.get(), &go, sizeof go, 0), static_cast<ssize_t>(sizeof go));
  ASSERT_TRUE(sandbox->init.wait().has_value());
  EXPECT_FALSE(populated(sandbox->pid_namespace));
}

TEST_F(LifeTest, EverythingDiesWithTheKeeper) {
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
  PidNamespace pids_inside;
  ASSERT_EQ(::read(ends[0], &pids_inside, sizeof pids_inside), static_cast<ssize_t>(sizeof pids_inside));
  EXPECT_TRUE(populated(pids_inside));
  ::kill(keeper, SIGKILL);
  ASSERT_EQ(::waitpid(keeper, nullptr, 0), keeper);
  for (int tries = 0; tries < 500 && populated(pids_inside); ++tries) ::usleep(10'000);
  EXPECT_FALSE(populated(pids_inside));
}

// Only the keeper's own end matters: another process may hold a copy of its descriptors.
TEST_F(LifeTest, EverythingDiesWithTheKeeperWhoeverHoldsItsDescriptors) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  pid_t pids[2] = {};
  PidNamespace pids_inside;
  const pid_t keeper = ::fork();
  if (keeper == 0) {
    auto sandbox = start_sandbox(shell_spec("exec sleep 1000"));
    pids[0] = ::fork();  // the holder
    if (pids[0] == 0)
      for (;;) ::pause();
    const ControlPacket go{.kind = Control::go};
    (void)!::send(sandbox->control.get(), &go, sizeof go, 0);
    (void)read_fd(sandbox->report.get());
    (void)!::write(ends[1], pids, sizeof pids);
    (void)!::write(ends[1], &sandbox->pid_namespace, sizeof pids_inside);
    for (;;) ::pause();
  }
  ASSERT_EQ(::read(ends[0], pids, sizeof pids), static_cast<ssize_t>(sizeof pids));
  ASSERT_EQ(::read(ends[0], &pids_inside, sizeof pids_inside), static_cast<ssize_t>(sizeof pids_inside));
  EXPECT_TRUE(populated(pids_inside));
  ::kill(keeper, SIGKILL);
  ASSERT_EQ(::waitpid(keeper, nullptr, 0), keeper);
  for (int tries = 0; tries < 500 && populated(pids_inside); ++tries) ::usleep(10'000);
  EXPECT_FALSE(populated(pids_inside));
  ::kill(pids[0], SIGKILL);
  (void)kill_pid_namespace(pids_inside, 5'000);
}

TEST_F(LifeTest, InitEndsWithTheKeepersConnection) {
  auto sandbox = start_sandbox(shell_spec("exec sleep 1000"));
  ASSERT_TRUE(sandbox.has_value()) << sandbox.error().text;
  const ControlPacket go{.kind = Control::go};
  ASSERT_EQ(::send(sandbox->control.get(), &go, sizeof go, 0), static_cast<ssize_t>(sizeof go));
  ASSERT_EQ(read_fd(sandbox->report.get()).value(), std::string(1, kStartedMark));
  sandbox->control.reset();
  pollfd end{sandbox->init.pidfd(), POLLIN, 0};
  EXPECT_EQ(::poll(&end, 1, 60'000), 1) << "init stays";
  (void)sandbox->init.signal(SIGKILL);
  (void)sandbox->init.wait();
}

TEST_F(LifeTest, InitHoldsNothingOfTheKeeper) {
  auto sandbox = start_sandbox(shell_spec("exec sleep 1000"));
  ASSERT_TRUE(sandbox.has_value()) << sandbox.error().text;
  const ControlPacket go{.kind = Control::go};
  ASSERT_EQ(::send(sandbox->control.get(), &go, sizeof go, 0), static_cast<ssize_t>(sizeof go));
  ASSERT_EQ(read_fd(sandbox->report.get()).value(), std::string(1, kStartedMark));
  const std::string folder = "/proc/" + std::to_string(sandbox->init.pid()) + "/fd";
  std::size_t count = 0;
  for (int tries = 0; tries < 500; ++tries, ::usleep(10'000))  // it closes after the fork
    if ((count = list_folder(folder).value().size()) == 2) break;
  EXPECT_EQ(count, 2u) << "more than the control socket and the signals";
  (void)sandbox->init.signal(SIGKILL);
  (void)sandbox->init.wait();
}

// The shim ignores some signals, init blocks all; a job's session is led by its first process.
TEST_F(LifeTest, SignalsAndSessionAreTheJobsOwn) {
  const auto before = ::signal(SIGPIPE, SIG_IGN);
  const Ran ran = run(shell_spec(
      "grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f2; cut -d' ' -f5,6 /proc/$$/stat"));
  ::signal(SIGPIPE, before);
  EXPECT_EQ(ran.output, "0000000000000000\n0000000000000000\n2 2\n");
}

TEST_F(LifeTest, OrphansAreReaped) {
  const Ran ran =
      run(python_spec("import os, time\n"
                      "for _ in range(5):\n"
                      "  child = os.fork()\n"
                      "  if child == 0:\n"
                      "    os.fork()\n"
                      "    os._exit(0)\n"
                      "  os.waitpid(child, 0)\n"
                      "for _ in range(500):\n"
                      "  left = [p for p in os.listdir('/proc') if p.isdigit()]\n"
                      "  if left == ['1', '2']: break\n"
                      "  time.sleep(0.01)\n"
                      "print(left)\n"));
  EXPECT_EQ(ran.output, "['1', '2']\n");
}

// The value is made by another process: init is a fork of this one, whose memory must not hold it
// either.
// Its stops look like ends to a waitpid that does not ask. A debugger's check (PTRACE_TRACEME, then go
// on) is found in ordinary programs.
TEST_F(LifeTest, AProcessThatAsksToBeTracedGoesOn) {
  const Ran ran = run(python_spec(
      "import ctypes, os, signal\n"
      "signal.signal(signal.SIGUSR1, lambda *_: print('caught', flush=True))\n"
      "trace = lambda: ctypes.CDLL(None).ptrace(0, 0, 0, 0)\n"
      "trace()\n"
      "os.kill(os.getpid(), signal.SIGUSR1)\n"
      "trace()\n"
      "os.execv('/bin/sh', ['sh', '-c', 'echo executed; exit 7'])\n"));
  EXPECT_EQ(ran.output, "caught\nexecuted\n");
  EXPECT_TRUE(WIFEXITED(ran.status) && WEXITSTATUS(ran.status) == 7) << ran.status;
}

TEST_F(LifeTest, SecretsReachTheUsersProcessAlone) {
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
      if high - low > 1 << 40: continue  # a sanitizer's shadow, which holds none of our bytes
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

// Whoever could put a link in its place would have the keeper read what it may.
TEST_F(LifeTest, TheFileOfSecretsIsNoLink) {
  Spec spec = shell_spec("echo $TOKEN");
  write("elsewhere", R"({"TOKEN":"s3cr3t-value"})", 0600);
  ASSERT_EQ(::symlink((folder_ + "/elsewhere").c_str(), (folder_ + "/secrets").c_str()), 0);
  spec.secrets_file = folder_ + "/secrets";
  EXPECT_FALSE(start_sandbox(spec).has_value());
}

// Some programs open /dev/stdout anew: the pipe must be the user's.
TEST_F(LifeTest, TheStreamsCanBeOpenedAnew) {
  EXPECT_EQ(run(shell_spec("echo once; echo again > /dev/stdout")).output, "once\nagain\n");
}

TEST_F(LifeTest, SecretsAreInTheEnvironment) {
  Spec spec = shell_spec("echo $TOKEN; cat /proc/1/environ 2>&1 | grep -c s3cr3t");
  spec.secrets_file = write("secrets", R"({"TOKEN":"s3cr3t-value"})", 0600);
  EXPECT_EQ(run(spec).output, "s3cr3t-value\n0\n");
}

}  // namespace
}  // namespace loam::sandbox
