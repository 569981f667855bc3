#include "sandbox/devices.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <vector>

#include "base/fd.h"
#include "base/files.h"

namespace loam::sandbox {
namespace {

constexpr std::int32_t kAnyMinor = -1;
struct Allowed {
  std::int32_t major_first, major_last, minor_number;
};
// Character devices of devices.txt (Linux): memory devices, tty, ptmx, Unix98 pty slaves.
constexpr std::array<Allowed, 8> kAllowed{{{1, 1, 3},
                                           {1, 1, 5},
                                           {1, 1, 7},
                                           {1, 1, 8},
                                           {1, 1, 9},
                                           {5, 5, 0},
                                           {5, 5, 2},
                                           {136, 143, kAnyMinor}}};

bpf_insn instruction(int code, int destination, int source, int offset, std::int32_t value) {
  bpf_insn one{};
  one.code = static_cast<__u8>(code);
  one.dst_reg = static_cast<__u8>(destination & 0xf);
  one.src_reg = static_cast<__u8>(source & 0xf);
  one.off = static_cast<__s16>(offset);
  one.imm = value;
  return one;
}

bpf_insn load_word(int destination, int offset) {
  return instruction(BPF_LDX | BPF_MEM | BPF_W, destination, BPF_REG_1, offset, 0);
}
bpf_insn set_value(int destination, std::int32_t value) {
  return instruction(BPF_ALU64 | BPF_MOV | BPF_K, destination, 0, 0, value);
}
bpf_insn jump_if(int condition, int reg, std::int32_t value, int offset) {
  return instruction(BPF_JMP | condition | BPF_K, reg, 0, offset, value);
}
bpf_insn leave() { return instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0); }

// struct bpf_cgroup_dev_ctx: access_type (low half: type), major, minor.
std::vector<bpf_insn> program() {
  std::vector<bpf_insn> code{
      load_word(BPF_REG_2, 0),
      instruction(BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_2, 0, 0, 0xffff),
      load_word(BPF_REG_3, 4),
      load_word(BPF_REG_4, 8),
      set_value(BPF_REG_0, 0),
      jump_if(BPF_JEQ, BPF_REG_2, BPF_DEVCG_DEV_CHAR, 1),
      leave(),
  };
  for (const Allowed& allowed : kAllowed) {
    const bool any_minor = allowed.minor_number == kAnyMinor;
    const int rest = any_minor ? 2 : 3;  // instructions to skip to the next entry
    code.push_back(jump_if(BPF_JLT, BPF_REG_3, allowed.major_first, rest + 1));
    code.push_back(jump_if(BPF_JGT, BPF_REG_3, allowed.major_last, rest));
    if (!any_minor) code.push_back(jump_if(BPF_JNE, BPF_REG_4, allowed.minor_number, 2));
    code.push_back(set_value(BPF_REG_0, 1));
    code.push_back(leave());
  }
  code.push_back(leave());
  return code;
}

long bpf(int command, bpf_attr& attributes) {
  return ::syscall(SYS_bpf, command, &attributes, sizeof attributes);
}

Result<Fd> load() {
  const auto code = program();
  bpf_attr attributes;
  ::memset(&attributes, 0, sizeof attributes);
  attributes.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  attributes.insns = reinterpret_cast<std::uintptr_t>(code.data());
  attributes.insn_cnt = static_cast<__u32>(code.size());
  attributes.license = reinterpret_cast<std::uintptr_t>("Apache-2.0");
  Fd loaded(static_cast<int>(bpf(BPF_PROG_LOAD, attributes)));
  if (!loaded) return fail_errno("load the device program");
  return loaded;
}

}  // namespace

Result<void> restrict_devices(const std::string& cgroup_v2) {
  const Fd group = LOAM_TRY(open_file(cgroup_v2, O_RDONLY | O_DIRECTORY));
  const Fd loaded = LOAM_TRY(load());
  bpf_attr attributes;
  ::memset(&attributes, 0, sizeof attributes);
  attributes.target_fd = static_cast<__u32>(group.get());
  attributes.attach_bpf_fd = static_cast<__u32>(loaded.get());
  attributes.attach_type = BPF_CGROUP_DEVICE;
  attributes.attach_flags = BPF_F_ALLOW_MULTI;
  if (bpf(BPF_PROG_ATTACH, attributes) != 0) return fail_errno("attach the device program");
  return {};
}

}  // namespace loam::sandbox
