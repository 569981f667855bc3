// The finished programs, run here instead of in the kernel: a kernel built without x32 or 32-bit
// calls would answer ENOSYS by itself, and a missing rule would not show.
#include "sandbox/filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include <cstring>

#include "sandbox/sandbox_fixture.h"

namespace loam::sandbox {
namespace {

using FilterTest = SandboxTest;

TEST_F(FilterTest, DangerousCallsAreRefused) {
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

TEST_F(FilterTest, UnknownCallsAndClone3AnswerThatTheyDoNotExist) {
  const Ran ran =
      run(python_spec(kCallPrelude + call_line("clone3", SYS_clone3) + call_line("unknown", 999)));
  EXPECT_EQ(ran.output, "clone3 38\nunknown 38\n");
}

TEST_F(FilterTest, CloneWithNewNamespacesIsRefused) {
  const Ran ran =
      run(python_spec(kCallPrelude + call_line("newuser", SYS_clone, "0x10000011,0,0,0,0") +
                      call_line("newns", SYS_clone, "0x00020011,0,0,0,0")));
  EXPECT_EQ(ran.output, "newuser 1\nnewns 1\n");
}

TEST_F(FilterTest, SocketFamiliesAlgAndVsockAreRefused) {
  const Ran ran = run(python_spec(
      "import socket\n"
      "for family in (38, 40, 1, 2, 16):\n"
      "  try: socket.socket(family, socket.SOCK_DGRAM if family != 38 else 5); print('ok')\n"
      "  except OSError as e: print(e.errno)\n"));
  EXPECT_EQ(ran.output, "1\n1\nok\nok\nok\n");
  // The kernel reads 32 bits of the family; a rule that compares 64 lets these pass.
  const Ran high =
      run(python_spec(std::string(kCallPrelude) + call_line("alg", SYS_socket, "0x100000026,5,0") +
                      call_line("vsock", SYS_socket, "0x100000028,1,0") +
                      call_line("unix", SYS_socket, "0x100000001,1,0")));
  EXPECT_EQ(high.output, "alg 1\nvsock 1\nunix 0\n");
}

TEST_F(FilterTest, NothingIsTypedIntoATerminal) {
  // Twice: the kernel looks at 32 bits of the request only.
  const Ran ran =
      run(python_spec(std::string(kCallPrelude) + call_line("sti", SYS_ioctl, "0,0x5412,0") +
                      call_line("sti-high", SYS_ioctl, "0,0x100005412,0") +
                      call_line("linux", SYS_ioctl, "0,0x541c,0")));
  EXPECT_EQ(ran.output, "sti 1\nsti-high 1\nlinux 1\n");
}

TEST_F(FilterTest, NumaCallsWork) {
  const Ran ran = run(python_spec(kCallPrelude + call_line("get_mempolicy", SYS_get_mempolicy)));
  EXPECT_EQ(ran.output, "get_mempolicy 0\n");
}

// int 0x80 has numbers of its own: 20 is getpid there, and writev, which the filter allows, here.
// A kernel without 32-bit calls ends the process, which is as good.
TEST_F(FilterTest, CallsOfOtherArchitecturesDoNotExist) {
  const Ran ran = run(
      python_spec(std::string(kCallPrelude) + "import mmap, os\n" +
                  call_line("x32 getpid", 0x40000000 + SYS_getpid) +
                  "code = mmap.mmap(-1, 4096, prot=7)\n"
                  "code.write(bytes.fromhex('b814000000cd80c3'))  # mov eax, 20; int 0x80; ret\n"
                  "address = ctypes.addressof(ctypes.c_char.from_buffer(code))\n"
                  "getpid = ctypes.CFUNCTYPE(ctypes.c_int)(address)\n"
                  "child = os.fork()\n"
                  "if child == 0: os._exit(0 if getpid() == -38 else 1)\n"
                  "status = os.waitpid(child, 0)[1]\n"
                  "print(status in (0, 11), status)\n"));
  EXPECT_EQ(ran.output.substr(0, 19), "x32 getpid 38\nTrue ") << ran.output;
}

TEST_F(FilterTest, OnlyOrdinaryPersonalities) {
  // Asking, the two of Linux; then no address randomization, and READ_IMPLIES_EXEC, also behind a
  // high half that the kernel does not read.
  const Ran ran = run(python_spec(
      std::string(kCallPrelude) + call_line("ask", SYS_personality, "0xffffffff") +
      call_line("linux", SYS_personality, "0") + call_line("fixed", SYS_personality, "0x40000") +
      call_line("exec", SYS_personality, "0x400000") +
      call_line("high", SYS_personality, "0x100040000")));
  EXPECT_EQ(ran.output, "ask 0\nlinux 0\nfixed 1\nexec 1\nhigh 1\n");
}

// Run here instead of in the kernel: one that is built without x32 or 32-bit calls would answer
// ENOSYS by itself, and a missing rule would not show. Classic BPF as far as seccomp allows it and
// libseccomp writes it (bpf(4), seccomp(2)).
std::uint32_t answer(std::span<const sock_filter> program, const seccomp_data& call) {
  std::uint32_t accumulator = 0;
  for (std::size_t i = 0; i < program.size(); ++i) {
    const sock_filter& one = program[i];
    bool jumps = false;
    switch (one.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        std::memcpy(&accumulator, reinterpret_cast<const char*>(&call) + one.k, sizeof accumulator);
        continue;
      case BPF_ALU | BPF_AND | BPF_K:
        accumulator &= one.k;
        continue;
      case BPF_RET | BPF_K:
        return one.k;
      case BPF_JMP | BPF_JA:
        i += one.k;
        continue;
      case BPF_JMP | BPF_JEQ | BPF_K:
        jumps = accumulator == one.k;
        break;
      case BPF_JMP | BPF_JGT | BPF_K:
        jumps = accumulator > one.k;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        jumps = accumulator >= one.k;
        break;
      case BPF_JMP | BPF_JSET | BPF_K:
        jumps = (accumulator & one.k) != 0;
        break;
      default:
        ADD_FAILURE() << "an instruction that this test does not know: " << one.code;
        return 0;
    }
    i += jumps ? one.jt : one.jf;
  }
  ADD_FAILURE() << "the program has no end";
  return 0;
}

#ifdef __x86_64__
constexpr std::uint32_t kNoSuchCall = SECCOMP_RET_ERRNO | ENOSYS;

TEST(FilterProgram, CallsOfX32AndOfThirtyTwoBitsDoNotExist) {
  constexpr int kX32Bit = 0x40000000;
  for (const auto program : {job_program(), set_id_program()}) {
    EXPECT_EQ(answer(program, {.nr = SYS_getpid, .arch = AUDIT_ARCH_X86_64}), SECCOMP_RET_ALLOW);
    for (const int call : {SYS_getpid, SYS_read, SYS_mount, 512, 547})  // 512 to 547 are x32's own
      EXPECT_EQ(answer(program, {.nr = kX32Bit | call, .arch = AUDIT_ARCH_X86_64}), kNoSuchCall)
          << call;
    for (int call = 0; call < 450; ++call)
      EXPECT_EQ(answer(program, {.nr = call, .arch = AUDIT_ARCH_I386}), kNoSuchCall) << call;
  }
}
#endif

}  // namespace
}  // namespace loam::sandbox
