#include "sandbox/sandbox.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/files.h"
#include "sandbox/cpuset.h"
#include "sandbox/init.h"
#include "sandbox/stage.h"

namespace loam::sandbox {
namespace {

bool has_controller(const CgroupPaths& cgroup, const std::string& v1_name,
                    const std::string& v2_file) {
  const bool in_v1 = std::any_of(cgroup.v1.begin(), cgroup.v1.end(),
                                 [&](const auto& entry) { return entry.first == v1_name; });
  return in_v1 || (!cgroup.v2.empty() && path_exists(cgroup.v2 + "/" + v2_file));
}

bool has_cpuset(const CgroupPaths& cgroup) {
  return has_controller(cgroup, "cpuset", "cpuset.cpus");
}

std::vector<Missing> find_missing(const Spec& spec, int device_program) {
  std::vector<Missing> missing;
  const CgroupPaths& cgroup = spec.cgroup;
  const std::string reason = "no writable cgroup with this controller";
  if (!has_controller(cgroup, "memory", "memory.max")) missing.push_back({"memory", reason});
  if (!has_controller(cgroup, "cpu", "cpu.max")) missing.push_back({"cpu", reason});
  if (!has_controller(cgroup, "pids", "pids.max")) missing.push_back({"processes", reason});
  if (spec.cpu_set.pinned && !has_cpuset(cgroup))
    missing.push_back({"pinning", "no writable cgroup with cpuset: a CPU affinity, not enforced"});
  if (spec.huge_page_bytes != 0) {
    const std::string prefix = huge_page_prefix(spec.huge_page_bytes);
    if (!has_controller(cgroup, "hugetlb", prefix + "max"))
      missing.push_back({"hugepages", "no writable cgroup with hugetlb: the pages are not limited"});
  }
  if (auto restricted = restrict_devices(cgroup, spec.devices, device_program); !restricted)
    missing.push_back({"devices", restricted.error().text});
  if (cgroup.v2.empty())
    missing.push_back({"kill", "no writable cgroup v2: the end of pid 1 ends the others"});
  else if (!path_exists(cgroup.v2 + "/cgroup.kill"))
    missing.push_back({"kill", "no cgroup.kill before Linux 5.14"});
  return missing;
}

struct Plumbing {
  Fd control_theirs;
  Pipe report, input, output, error;
  std::vector<Pipe> rank_outputs;
};

Result<Plumbing> make_plumbing(const Spec& spec, Sandbox& sandbox) {
  Plumbing plumbing;
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return fail_errno("socketpair");
  sandbox.control = Fd(ends[0]);
  plumbing.control_theirs = Fd(ends[1]);
  plumbing.report = LOAM_TRY(make_pipe());
  if (spec.terminal) return plumbing;
  for (std::size_t i = 0; i < spec.ranks.size(); ++i)
    plumbing.rank_outputs.push_back(LOAM_TRY(make_user_pipe(spec.ids)));
  if (!spec.ranks.empty()) return plumbing;
  plumbing.output = LOAM_TRY(make_user_pipe(spec.ids));
  if (spec.standard_input) {
    plumbing.input = LOAM_TRY(make_user_pipe(spec.ids));
    plumbing.error = LOAM_TRY(make_user_pipe(spec.ids));
  }
  return plumbing;
}

Result<std::vector<Fd>> open_v1_tasks(const CgroupPaths& cgroup) {
  std::vector<Fd> tasks;
  for (const auto& [controller, folder] : cgroup.v1)
    tasks.push_back(LOAM_TRY(open_file(folder + "/tasks", O_WRONLY)));
  return tasks;
}

// clone3 as fork: no stack, no shared memory. 0 in the child.
Result<pid_t> clone_child(const Spec& spec, int cgroup, int& pidfd) {
  clone_args arguments{};
  arguments.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_PIDFD;
  if (spec.own_network) arguments.flags |= CLONE_NEWNET;
  if (cgroup >= 0) {
    arguments.flags |= CLONE_INTO_CGROUP;
    arguments.cgroup = static_cast<std::uint64_t>(cgroup);
  }
  arguments.pidfd = reinterpret_cast<std::uintptr_t>(&pidfd);
  arguments.exit_signal = SIGCHLD;
  const long pid = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) return fail_errno("make the sandbox's namespaces");
  return static_cast<pid_t>(pid);
}

}  // namespace

Result<Pipe> make_user_pipe(const Ids& ids) {
  Pipe pipe = LOAM_TRY(make_pipe());
  if (::fchown(pipe.read_end.get(), ids.uid, ids.gid) != 0) return fail_errno("chown of a pipe");
  return pipe;
}

Result<Sandbox> start_sandbox(const Spec& spec, const Shared& shared) {
  LOAM_ASSERT(spec.ranks.empty() || (!spec.terminal && !spec.standard_input));
  LOAM_ASSERT(!spec.argv.empty() && spec.ids.uid != 0 && spec.ids.gid != 0);
  Sandbox sandbox;
  sandbox.missing = find_missing(spec, shared.device_program);
  const Sources sources = LOAM_TRY(open_sources(spec, shared.swapped_ids));
  const auto tasks = LOAM_TRY(open_v1_tasks(spec.cgroup));
  Fd group, secrets;
  if (!spec.cgroup.v2.empty()) group = LOAM_TRY(open_file(spec.cgroup.v2, O_RDONLY | O_DIRECTORY));
  if (!spec.secrets_file.empty())
    secrets = LOAM_TRY(open_file(spec.secrets_file, O_RDONLY | O_NOFOLLOW));
  Plumbing plumbing = LOAM_TRY(make_plumbing(spec, sandbox));
  int pidfd = -1;
  const pid_t pid = LOAM_TRY(clone_child(spec, group.get(), pidfd));
  if (pid == 0) {
    InitParts parts{.spec = spec,
                    .sources = sources,
                    .control = plumbing.control_theirs.get(),
                    .report = plumbing.report.write_end.get(),
                    .input = plumbing.input.read_end.get(),
                    .output = plumbing.output.write_end.get(),
                    .error = plumbing.error.write_end.get(),
                    .secrets = secrets.get(),
                    .bind_cpus = !has_cpuset(spec.cgroup)};
    for (const Pipe& pipe : plumbing.rank_outputs)
      parts.rank_outputs.push_back(pipe.write_end.get());
    for (const Fd& fd : tasks) parts.v1_tasks.push_back(fd.get());
    run_init(parts);
  }
  sandbox.init = Child(pid, Fd(pidfd));
  if (spec.cgroup.v2.empty()) sandbox.pid_namespace = pid_namespace_of(pid);
  sandbox.report = std::move(plumbing.report.read_end);
  sandbox.input = std::move(plumbing.input.write_end);
  sandbox.output = std::move(plumbing.output.read_end);
  sandbox.error = std::move(plumbing.error.read_end);
  for (Pipe& pipe : plumbing.rank_outputs)
    sandbox.rank_outputs.push_back(std::move(pipe.read_end));
  return sandbox;
}

std::string mend_for(const std::string& guard) {
  if (guard == "memory" || guard == "cpu" || guard == "processes")
    return "run a system node as root, or a user's node under systemd with a delegated scope "
           "(systemd-run --user --scope -p Delegate=yes loam node start)";
  if (guard == "pinning" || guard == "hugepages") return "run a system node as root";
  if (guard == "devices") return "run a system node as root on a host with cgroup v2 mounted";
  if (guard == "kill")
    return "mount cgroup v2 (mount -t cgroup2 none /sys/fs/cgroup/unified), Linux 5.14 or newer";
  return "";
}

}  // namespace loam::sandbox
