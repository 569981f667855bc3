#include "sandbox/guards.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>

#include "base/fd.h"
#include "base/files.h"
#include "sandbox/cgroup.h"
#include "sandbox/devices.h"
#include "sandbox/filter.h"
#include "sandbox/mount.h"
#include "sandbox/sandbox.h"
#include "sandbox/user_namespace.h"

namespace loam::sandbox {
namespace {

// Runs `attempt` in a child, where it can do no harm; its error's text comes back.
Result<void> try_in_child(const std::function<Result<void>()>& attempt) {
  Pipe words = LOAM_TRY(make_pipe());
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno("fork");
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const auto done = attempt();
    if (!done)
      (void)!::write(words.write_end.get(), done.error().text.data(), done.error().text.size());
    ::_exit(done ? 0 : 1);
  }
  words.write_end.reset();
  auto text = read_fd(words.read_end.get());
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (status == 0) return {};
  return fail(ErrorCode::unavailable, text && !text->empty() ? *text : "the probe died");
}

Result<void> try_unshare(int flags) {
  return try_in_child([flags]() -> Result<void> {
    if (::unshare(flags) != 0) return fail_errno("unshare");
    return {};
  });
}

Result<void> make_folder(const char* path) {
  if (::mkdir(path, 0755) != 0) return fail_errno(std::string("mkdir ") + path);
  return {};
}

// As a sandbox does it: upper on a tmpfs, lower perhaps idmapped.
Result<void> try_overlay(bool idmapped) {
  return try_in_child([idmapped]() -> Result<void> {
    Fd lower;
    if (idmapped) {
      // Asked first: what the kernel says to the attempt names this one process.
      if (!in_initial_user_namespace())
        return fail(ErrorCode::unavailable, "a user's node may not map the ids of a mount");
      const auto swapped = swapped_with_root(65'533);
      const Fd user_namespace = LOAM_TRY(make_user_namespace(swapped, swapped));
      lower = LOAM_TRY(clone_tree(
          AT_FDCWD, "/usr",
          {.read_only = true, .recursive = false, .user_namespace = user_namespace.get()}));
    }
    if (::unshare(CLONE_NEWNS) != 0) return fail_errno("unshare");
    LOAM_CHECK(make_private());
    const Fd stage = LOAM_TRY(new_tmpfs(1 << 20, 0755));
    LOAM_CHECK(attach(stage.get(), "/tmp"));
    if (::chdir("/tmp") != 0) return fail_errno("chdir");
    for (const char* name : {"lower", "upper", "work"}) LOAM_CHECK(make_folder(name));
    if (lower) LOAM_CHECK(attach(lower.get(), "lower"));
    Parameters parameters{{"lowerdir", "lower"}, {"upperdir", "upper"}, {"workdir", "work"}};
    if (!in_initial_user_namespace()) parameters.emplace_back("userxattr", "");
    const Fd overlay = LOAM_TRY(new_filesystem("overlay", parameters));
    return {};
  });
}

Guard guard(const char* name, const Result<void>& tried, const std::string& found,
            const std::string& mend) {
  if (tried) return {.name = name, .present = true, .finding = found, .mend = ""};
  return {.name = name, .present = false, .finding = tried.error().text, .mend = mend};
}

struct Group {
  CgroupParents parents;
  CgroupPaths paths;
};

Guard controller_guard(const char* name, const Group& group, const char* v1_name,
                       const char* v2_file) {
  // The parents, not the probe's own group: the finding goes into the host's record, which is the same
  // from one start of a node to the next.
  const bool limited = std::any_of(group.paths.v1.begin(), group.paths.v1.end(),
                                   [&](const auto& found) { return found.first == v1_name; });
  for (const auto& [controller, folder] : group.parents.v1)
    if (limited && controller == v1_name)
      return guard(name, {}, "cgroup v1 " + controller + " below " + folder, "");
  const std::string file = group.paths.v2 + "/" + v2_file;
  if (!group.paths.v2.empty() && path_exists(file))
    return guard(name, {}, "cgroup v2 below " + group.parents.v2, "");
  return guard(name, fail(ErrorCode::unavailable, "no writable cgroup with this controller"), "",
               mend_for(name));
}

Guard kill_guard(const Group& group) {
  const bool present = !group.paths.v2.empty() && path_exists(group.paths.v2 + "/cgroup.kill");
  if (present) return guard("kill", {}, "cgroup.kill", "");
  return guard("kill",
               fail(ErrorCode::unavailable, "no cgroup.kill; the end of pid 1 ends the others"), "",
               mend_for("kill"));
}

Guard devices_guard(const Group& group) {
  return guard("devices", restrict_devices(group.paths, {}),
               group.paths.v2.empty() ? "cgroup v1 devices" : "device program on cgroup v2",
               mend_for("devices"));
}

// A group as an attempt would get it, made and removed again.
void probe_cgroup_guards(const Json& document, std::vector<Guard>& guards) {
  Group group;
  if (auto parents = cgroup_parents_from(document)) group.parents = std::move(*parents);
  const std::string name = "probe-" + std::to_string(::getpid());
  auto made = create_cgroup(group.parents, name,
                            {.memory_bytes = 64u << 20, .cpu_milli = 1000, .processes_max = 64});
  if (made) group.paths = std::move(*made);
  guards.push_back(controller_guard("memory", group, "memory", "memory.max"));
  guards.push_back(controller_guard("cpu", group, "cpu", "cpu.max"));
  guards.push_back(controller_guard("processes", group, "pids", "pids.max"));
  guards.push_back(kill_guard(group));
  guards.push_back(devices_guard(group));
  (void)remove_cgroup(group.paths);
}

}  // namespace

std::vector<Guard> probe_guards(const Json& cgroup_parents) {
  const std::string as_root =
      "run the node as root, or allow user namespaces (sysctl user.max_user_namespaces, and "
      "kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu)";
  std::vector<Guard> guards;
  guards.push_back(guard("namespaces",
                         try_unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS),
                         "mount, pid, ipc, uts", as_root));
  guards.push_back(guard("user_namespaces", try_unshare(CLONE_NEWUSER), "allowed", as_root));
  guards.push_back(guard("overlay", try_overlay(false), "with its upper on a tmpfs",
                         "modprobe overlay, Linux 5.11"));
  guards.push_back(guard(
      "idmap", try_overlay(true), "overlay on an idmapped layer",
      "none needed: snapshots are copied instead; Linux 5.19 and a root node would not have to"));
  guards.push_back(guard("seccomp",
                         try_in_child([] { return load_filter({.refuse_set_id = true}); }),
                         "loaded", "a kernel with CONFIG_SECCOMP_FILTER"));
  probe_cgroup_guards(cgroup_parents, guards);
  guards.push_back(guard("network", try_unshare(CLONE_NEWNET), "network namespaces", as_root));
  guards.push_back(guard("no_new_privs", try_in_child([]() -> Result<void> {
                           if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
                             return fail_errno("prctl");
                           return {};
                         }),
                         "set for every job", "Linux 3.5"));
  return guards;
}

Json to_json(const std::vector<Guard>& guards) {
  Json list = Json::array();
  for (const Guard& one : guards)
    list.push(Json::object({{"name", one.name},
                            {"present", one.present},
                            {"finding", one.finding},
                            {"mend", one.mend}}));
  return list;
}

}  // namespace loam::sandbox
