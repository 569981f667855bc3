// Build-time: compiles the sandbox's seccomp rules with libseccomp and prints the finished programs
// as C arrays (sandbox/filter.cc includes them). Loading a finished program costs 0.13 ms; building
// the rules at each start would cost 10 ms.
//
// The list is Docker's default profile for a process without capabilities, changed as
// docs/sandbox.md says: calls nobody listed answer ENOSYS (programs then fall back), known
// dangerous ones EPERM.
#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cstdint>
#include <vector>

#include "sandbox/filter/call_lists.h"

namespace {

constexpr std::uint64_t kNamespaceFlags = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS |
                                          CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |
                                          CLONE_NEWNET;
constexpr unsigned kFchmodat2 =
    452;  // younger than some libseccomps; one number on all architectures
constexpr unsigned kOpenat2 = 437;

void check(int result, const char* what) {
  if (result == 0) return;
  fprintf(stderr, "generate_filter: %s: %d\n", what, result);
  exit(1);
}

// A call that this architecture or this libseccomp does not know needs no rule: unknown calls
// answer ENOSYS.
int number_of(const char* name) {
  const int number = seccomp_syscall_resolve_name(name);
  return number >= 0 ? number : -1;
}

void allow(scmp_filter_ctx filter, const char* name) {
  if (const int number = number_of(name); number >= 0)
    check(seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, 0, nullptr), name);
}

void refuse(scmp_filter_ctx filter, const char* name) {
  if (const int number = number_of(name); number >= 0)
    check(seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), number, 0, nullptr), name);
}

void rule(scmp_filter_ctx filter, std::uint32_t action, const char* name,
          std::vector<scmp_arg_cmp> arguments) {
  if (const int number = number_of(name); number >= 0)
    check(seccomp_rule_add_array(filter, action, number, static_cast<unsigned>(arguments.size()),
                                 arguments.data()),
          name);
}

// clone(2) without a new namespace is how threads and processes start. clone3 hides its flags
// behind a pointer: ENOSYS sends libc back to clone, EPERM would end in "can't start new thread".
void add_clone(scmp_filter_ctx filter) {
#ifdef __s390__
  constexpr unsigned kFlags = 1;
#else
  constexpr unsigned kFlags = 0;
#endif
  rule(filter, SCMP_ACT_ALLOW, "clone",
       {scmp_arg_cmp{kFlags, SCMP_CMP_MASKED_EQ, kNamespaceFlags, 0}});
  for (std::uint64_t bit = 1; bit <= kNamespaceFlags; bit <<= 1)
    if ((bit & kNamespaceFlags) != 0)
      rule(filter, SCMP_ACT_ERRNO(EPERM), "clone",
           {scmp_arg_cmp{kFlags, SCMP_CMP_MASKED_EQ, bit, bit}});
}

scmp_filter_ctx new_filter(std::uint32_t otherwise) {
  const scmp_filter_ctx filter = seccomp_init(otherwise);
  if (filter == nullptr) check(-1, "seccomp_init");
  // 32-bit and x32 calls have numbers of their own and would pass every rule below.
  check(seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS)),
        "bad architecture");
  check(seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2), "optimize");
  return filter;
}

scmp_filter_ctx job_filter() {
  const scmp_filter_ctx filter = new_filter(SCMP_ACT_ERRNO(ENOSYS));
  for (const char* name : loam::sandbox::kAllowedCalls) allow(filter, name);
  for (const char* name : loam::sandbox::kRefusedCalls) refuse(filter, name);
  add_clone(filter);
  return filter;
}

// Where a job writes into a folder of root through an idmapped mount: no file may get a set-id bit,
// for on the host it would be root's.
scmp_filter_ctx set_id_filter() {
  const scmp_filter_ctx filter = new_filter(SCMP_ACT_ALLOW);
  const std::uint32_t no = SCMP_ACT_ERRNO(EPERM);
  const auto with_bit = [&](const char* name, unsigned argument) {
    for (const std::uint64_t bit : {std::uint64_t{S_ISUID}, std::uint64_t{S_ISGID}})
      rule(filter, no, name, {scmp_arg_cmp{argument, SCMP_CMP_MASKED_EQ, bit, bit}});
  };
  for (const char* name : {"chmod", "fchmod", "creat", "mknod"}) with_bit(name, 1);
  for (const char* name : {"fchmodat", "mknodat"}) with_bit(name, 2);
  with_bit("open", 2);
  with_bit("openat", 3);
  for (const std::uint64_t bit : {std::uint64_t{S_ISUID}, std::uint64_t{S_ISGID}}) {
    const scmp_arg_cmp argument{2, SCMP_CMP_MASKED_EQ, bit, bit};
    check(seccomp_rule_add_array(filter, no, kFchmodat2, 1, &argument), "fchmodat2");
  }
  // Its mode lies behind a pointer.
  check(seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(ENOSYS), kOpenat2, 0, nullptr), "openat2");
  return filter;
}

struct Instruction {
  std::uint16_t code;
  std::uint8_t jump_true, jump_false;
  std::uint32_t value;
};

void print_program(scmp_filter_ctx filter, const char* name) {
  FILE* const file = tmpfile();
  if (file == nullptr) check(-1, "tmpfile");
  check(seccomp_export_bpf(filter, fileno(file)), "seccomp_export_bpf");
  rewind(file);
  printf("const sock_filter %s[] = {\n", name);
  Instruction one{};
  while (fread(&one, sizeof one, 1, file) == 1)
    printf("    {0x%02x, %u, %u, 0x%08x},\n", one.code, one.jump_true, one.jump_false, one.value);
  printf("};\n\n");
  fclose(file);
  seccomp_release(filter);
}

}  // namespace

int main() {
  printf("// Generated by generate_filter.cc with libseccomp; not edited by hand.\n");
  print_program(job_filter(), "kJobProgram");
  print_program(set_id_filter(), "kSetIdProgram");
  return 0;
}
