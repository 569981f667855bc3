#include "sandbox/filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

namespace loam::sandbox {
namespace {

#include "filter_data.inc"

// The low 32 bits of an argument, on a little-endian machine: all that the kernel reads of an
// ioctl's request, a socket's family and a personality.
constexpr std::uint32_t argument(int index) {
  return static_cast<std::uint32_t>(offsetof(seccomp_data, args) +
                                    8 * static_cast<std::size_t>(index));
}
constexpr std::uint32_t kTiocLinux = 0x541c;  // <asm-generic/ioctls.h>
constexpr std::uint32_t kAllow = SECCOMP_RET_ALLOW;
constexpr std::uint32_t kRefuse = SECCOMP_RET_ERRNO | EPERM;

// What the kernel reads 32 bits of, and libseccomp compares 64 of: a family or a request with a bit in
// its upper half would pass there. TIOCSTI types into a terminal as its user would, TIOCLINUX pastes;
// AF_ALG is a kernel attack surface of its own, AF_VSOCK reaches the hypervisor; of the personalities
// only those of Docker's list (Linux, with and without 32-bit uname and addresses). The architecture is
// checked by the big program.
const sock_filter kArgumentProgram[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 3, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 6, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_personality, 9, 0),
    BPF_STMT(BPF_RET | BPF_K, kAllow),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument(1)),  // ioctl
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TIOCSTI, 13, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kTiocLinux, 12, 0),
    BPF_STMT(BPF_RET | BPF_K, kAllow),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument(0)),  // socket
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_ALG, 9, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_VSOCK, 8, 0),
    BPF_STMT(BPF_RET | BPF_K, kAllow),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument(0)),  // personality
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x0, 4, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x8, 3, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x20000, 2, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x20008, 1, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xffffffff, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, kAllow),
    BPF_STMT(BPF_RET | BPF_K, kRefuse),
};

template <std::size_t kLength>
Result<void> load(const sock_filter (&instructions)[kLength]) {
  static_assert(kLength <= BPF_MAXINSNS);
  const sock_fprog program{.len = kLength, .filter = const_cast<sock_filter*>(instructions)};
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0)
    return fail_errno("seccomp");
  return {};
}

}  // namespace

std::span<const sock_filter> job_program() { return kJobProgram; }
std::span<const sock_filter> set_id_program() { return kSetIdProgram; }

Result<void> load_filter(const FilterOptions& options) {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno("no_new_privs");
  if (options.refuse_set_id) LOAM_CHECK(load(kSetIdProgram));
  LOAM_CHECK(load(kArgumentProgram));
  // The last: it may refuse the loading of further ones in times to come.
  return load(kJobProgram);
}

}  // namespace loam::sandbox
