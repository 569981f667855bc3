#include "sandbox/filter.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>

namespace loam::sandbox {
namespace {

#include "filter_data.inc"

template <std::size_t kLength>
Result<void> load(const sock_filter (&instructions)[kLength]) {
  static_assert(kLength <= BPF_MAXINSNS);
  const sock_fprog program{.len = kLength, .filter = const_cast<sock_filter*>(instructions)};
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0)
    return fail_errno("seccomp");
  return {};
}

}  // namespace

Result<void> load_filter(const FilterOptions& options) {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno("no_new_privs");
  if (options.refuse_set_id) LOAM_CHECK(load(kSetIdProgram));
  LOAM_CHECK(load(kIoctlProgram));
  // The last: it may refuse the loading of further ones in times to come.
  return load(kJobProgram);
}

}  // namespace loam::sandbox
