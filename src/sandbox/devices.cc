#include "sandbox/devices.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <vector>

#include "base/fd.h"
#include "base/files.h"
#include "sandbox/control_file.h"

namespace loam::sandbox {
namespace {

constexpr std::int32_t kAnyMinor = -1;
struct Allowed {
  int type = BPF_DEVCG_DEV_CHAR;
  std::int32_t major_first = 0, major_last = 0, minor_number = 0;
};
// Character devices of devices.txt (Linux): memory devices, tty, ptmx, Unix98 pty slaves.
constexpr std::array<Allowed, 8> kHarmless{{{BPF_DEVCG_DEV_CHAR, 1, 1, 3},
                                            {BPF_DEVCG_DEV_CHAR, 1, 1, 5},
                                            {BPF_DEVCG_DEV_CHAR, 1, 1, 7},
                                            {BPF_DEVCG_DEV_CHAR, 1, 1, 8},
                                            {BPF_DEVCG_DEV_CHAR, 1, 1, 9},
                                            {BPF_DEVCG_DEV_CHAR, 5, 5, 0},
                                            {BPF_DEVCG_DEV_CHAR, 5, 5, 2},
                                            {BPF_DEVCG_DEV_CHAR, 136, 143, kAnyMinor}}};

std::vector<Allowed> allowed_with(const std::vector<DeviceNode>& assigned) {
  std::vector<Allowed> all(kHarmless.begin(), kHarmless.end());
  for (const DeviceNode& node : assigned) {
    const auto major = static_cast<std::int32_t>(node.major_number);
    all.push_back({node.block ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR, major, major,
                   static_cast<std::int32_t>(node.minor_number)});
  }
  return all;
}

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
std::vector<bpf_insn> program(const std::vector<Allowed>& all) {
  std::vector<bpf_insn> code{
      load_word(BPF_REG_2, 0), instruction(BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_2, 0, 0, 0xffff),
      load_word(BPF_REG_3, 4), load_word(BPF_REG_4, 8),
      set_value(BPF_REG_0, 0),
  };
  for (const Allowed& allowed : all) {
    const bool any_minor = allowed.minor_number == kAnyMinor;
    const int rest = any_minor ? 2 : 3;  // instructions to skip to the next entry
    code.push_back(jump_if(BPF_JNE, BPF_REG_2, allowed.type, rest + 2));
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

Result<Fd> load(const std::vector<Allowed>& all) {
  const auto code = program(all);
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

Result<void> attach_program(const std::string& cgroup_v2, int loaded) {
  const Fd group = LOAM_TRY(open_file(cgroup_v2, O_RDONLY | O_DIRECTORY));
  bpf_attr attributes;
  ::memset(&attributes, 0, sizeof attributes);
  attributes.target_fd = static_cast<__u32>(group.get());
  attributes.attach_bpf_fd = static_cast<__u32>(loaded);
  attributes.attach_type = BPF_CGROUP_DEVICE;
  attributes.attach_flags = BPF_F_ALLOW_MULTI;
  if (bpf(BPF_PROG_ATTACH, attributes) != 0) return fail_errno("attach the device program");
  return {};
}

// cgroup-v1/devices.rst: deny all, then a line for each.
Result<void> fill_whitelist(const std::string& folder, const std::vector<Allowed>& all) {
  LOAM_CHECK(write_control(folder + "/devices.deny", "a"));
  for (const Allowed& allowed : all)
    for (std::int32_t major = allowed.major_first; major <= allowed.major_last; ++major)
      LOAM_CHECK(write_control(
          folder + "/devices.allow",
          std::string(allowed.type == BPF_DEVCG_DEV_BLOCK ? "b " : "c ") + std::to_string(major) +
              ":" +
              (allowed.minor_number == kAnyMinor ? "*" : std::to_string(allowed.minor_number)) +
              " rwm"));
  return {};
}

}  // namespace

Result<DeviceNode> device_node_at(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return fail_errno(path);
  if (!S_ISCHR(status.st_mode) && !S_ISBLK(status.st_mode))
    return fail(ErrorCode::invalid, path + ": is no device");
  return DeviceNode{.path = path,
                    .block = S_ISBLK(status.st_mode),
                    .major_number = major(status.st_rdev),
                    .minor_number = minor(status.st_rdev)};
}

Result<Fd> load_device_program() { return load(allowed_with({})); }

Result<void> restrict_devices(const CgroupPaths& cgroup, const std::vector<DeviceNode>& assigned,
                              int common_program) {
  if (!cgroup.v2.empty() && assigned.empty() && common_program >= 0)
    return attach_program(cgroup.v2, common_program);
  const auto all = allowed_with(assigned);
  if (!cgroup.v2.empty()) {
    const Fd loaded = LOAM_TRY(load(all));
    return attach_program(cgroup.v2, loaded.get());
  }
  for (const auto& [controller, folder] : cgroup.v1)
    if (controller == "devices") return fill_whitelist(folder, all);
  return fail(ErrorCode::unavailable, "no writable cgroup v2, nor v1 with devices");
}

}  // namespace loam::sandbox
