// Becoming 0 of a namespace over the user's subordinate ids (user_namespaces(7), newuidmap(1)).
#include <fcntl.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/files.h"
#include "base/process.h"
#include "base/text.h"
#include "node/identity.h"

namespace loam::node {
namespace {

Error refused(int error_number) {
  return {ErrorCode::unavailable, "an ordinary user may not make user namespaces here (" +
                                      std::string(::strerror(error_number)) +
                                      "): as root set sysctl user.max_user_namespaces above 0, "
                                      "kernel.unprivileged_userns_clone=1 and, on "
                                      "Ubuntu, kernel.apparmor_restrict_unprivileged_userns=0; or "
                                      "run a system node (sudo loam node start)"};
}

std::uint64_t total(const std::vector<sandbox::IdRange>& ranges) {
  std::uint64_t sum = 0;
  for (const sandbox::IdRange& range : ranges) sum += range.count;
  return sum;
}

Result<void> run_tool(const char* tool, pid_t pid, const std::vector<sandbox::IdMapLine>& map) {
  SpawnOptions options;
  options.argv = {tool, std::to_string(pid)};
  for (const auto& line : map)
    for (const std::uint32_t value : {line.inside, line.outside, line.count})
      options.argv.push_back(std::to_string(value));
  const Output output = LOAM_TRY(run_collect(options));
  if (!output.ok())
    return fail(ErrorCode::unavailable,
                std::string(tool) + ": " + std::string(trim(output.standard_error)));
  return {};
}

// newuidmap must run outside the new namespace: a child of before the change waits for it.
struct Mapper {
  Fd go;      // to the child: the namespace is there
  Fd report;  // from the child: "" or what failed
  pid_t pid = -1;
};

Result<Mapper> start_mapper(const std::vector<sandbox::IdMapLine>& uids,
                            const std::vector<sandbox::IdMapLine>& gids) {
  Pipe go = LOAM_TRY(make_pipe());
  Pipe report = LOAM_TRY(make_pipe());
  const pid_t target = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno("fork");
  if (pid == 0) {
    go.write_end.reset();
    report.read_end.reset();
    char byte = 0;
    if (::read(go.read_end.get(), &byte, 1) != 1) ::_exit(0);
    auto mapped = run_tool("newuidmap", target, uids);
    if (mapped) mapped = run_tool("newgidmap", target, gids);
    if (!mapped) (void)write_full(report.write_end.get(), mapped.error().text);
    ::_exit(0);
  }
  return Mapper{std::move(go.write_end), std::move(report.read_end), pid};
}

Result<void> own_mounts() {
  if (::unshare(CLONE_NEWNS) != 0) return fail_errno("unshare mounts");
  // Slave: what the machine mounts later is seen, what we mount stays ours.
  if (::mount("none", "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0)
    return fail_errno("making / a slave mount");
  return {};
}

Result<void> become_zero(const std::vector<sandbox::IdMapLine>& uids,
                         const std::vector<sandbox::IdMapLine>& gids) {
  Mapper mapper = LOAM_TRY(start_mapper(uids, gids));
  const bool made = ::unshare(CLONE_NEWUSER) == 0;
  const int why = errno;
  if (made) (void)write_full(mapper.go.get(), "x");
  mapper.go.reset();
  const auto report = read_fd(mapper.report.get(), 64 * 1024);
  ::waitpid(mapper.pid, nullptr, 0);
  if (!made) return tl::unexpected(refused(why));
  if (!report || !report->empty())
    return fail(ErrorCode::unavailable, report ? *report : "no word from newuidmap");
  if (::setresgid(0, 0, 0) != 0 || ::setresuid(0, 0, 0) != 0)
    return fail_errno("becoming 0 of the namespace");
  // The change of ids made us undumpable, and with that /proc/self another user's.
  if (::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) != 0) return fail_errno("PR_SET_DUMPABLE");
  return own_mounts();
}

// Every capability of the namespace, also for what we execute: uid U alone would lose them there.
Result<void> keep_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  if (::syscall(SYS_capget, &header, data) != 0) return fail_errno("capget");
  for (auto& half : data) half.inheritable = half.permitted;
  if (::syscall(SYS_capset, &header, data) != 0) return fail_errno("capset");
  for (unsigned long capability = 0; capability < 64; ++capability)
    if ((data[capability / 32].permitted >> (capability % 32) & 1U) != 0 &&
        ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) != 0)
      return fail_errno("PR_CAP_AMBIENT");
  return {};
}

Result<void> become_single(std::uint32_t uid, std::uint32_t gid) {
  if (::unshare(CLONE_NEWUSER) != 0) return tl::unexpected(refused(errno));
  const auto put = [](const char* path, const std::string& text) -> Result<void> {
    const Fd fd = LOAM_TRY(open_file(path, O_WRONLY));
    return write_full(fd.get(), text);
  };
  const auto self_map = [](std::uint32_t id) {
    return std::to_string(id) + " " + std::to_string(id) + " 1";
  };
  LOAM_CHECK(put("/proc/self/uid_map", self_map(uid)));
  LOAM_CHECK(put("/proc/self/setgroups", "deny"));
  LOAM_CHECK(put("/proc/self/gid_map", self_map(gid)));
  LOAM_CHECK(own_mounts());
  return keep_capabilities();
}

std::vector<sandbox::IdRange> ranges_in(const char* path, const std::string& name,
                                        std::uint32_t uid) {
  const auto text = read_file(path);
  return text ? subordinate_ranges(*text, name, uid) : std::vector<sandbox::IdRange>{};
}

bool in_path(const std::string& program) {
  for (const char* folder : {"/usr/bin/", "/bin/", "/usr/local/bin/"})
    if (::access((folder + program).c_str(), X_OK) == 0) return true;
  return false;
}

}  // namespace

std::vector<sandbox::IdMapLine> rootless_map(std::uint32_t own,
                                             const std::vector<sandbox::IdRange>& ranges) {
  std::vector<sandbox::IdMapLine> map;
  std::uint32_t inside = 0;
  bool own_mapped = false;
  for (sandbox::IdRange range : ranges) {
    if (!own_mapped && inside <= own && own - inside < range.count) {
      const std::uint32_t before = own - inside;
      if (before > 0) map.push_back({inside, range.first, before});
      map.push_back({own, own, 1});
      own_mapped = true;
      inside = own + 1;
      range = {range.first + before, range.count - before};
    }
    if (range.count == 0) continue;
    map.push_back({inside, range.first, range.count});
    inside += range.count;
  }
  if (!own_mapped) map.push_back({own, own, 1});
  return map;
}

sandbox::IdRange rootless_build_range(std::uint32_t own,
                                      const std::vector<sandbox::IdRange>& ranges) {
  // Without U the map is whole from 0 to the last id.
  const auto ids =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(total(ranges), UINT32_MAX / 2));
  sandbox::IdRange below{1, std::min(own, ids) - 1};
  sandbox::IdRange above{own + 1, own < ids ? ids - own : 0};
  sandbox::IdRange best = below.count > above.count ? below : above;
  best.count = std::min(best.count, kBuildIds);
  return best;
}

std::string subordinate_ids_mend() {
  return "get some: sudo usermod --add-subuids 100000-231071 --add-subgids 100000-231071 USER (ids "
         "that no line of "
         "/etc/subuid and /etc/subgid has yet), install newuidmap (apt install uidmap), and start "
         "the node again";
}

Result<Identity> enter_user_namespace() {
  Identity identity;
  identity.rootless = true;
  identity.owner_uid = ::getuid();
  identity.owner_gid = ::getgid();
  const passwd* entry = ::getpwuid(identity.owner_uid);
  const std::string name = entry != nullptr ? entry->pw_name : "";
  const auto uids = ranges_in("/etc/subuid", name, identity.owner_uid);
  const auto gids = ranges_in("/etc/subgid", name, identity.owner_uid);
  if (total(uids) < kSubordinateIdsMin || total(gids) < kSubordinateIdsMin ||
      !in_path("newuidmap") || !in_path("newgidmap")) {
    identity.single_id = true;
    LOAM_CHECK(become_single(identity.owner_uid, identity.owner_gid));
    return identity;
  }
  identity.build_uids = rootless_build_range(identity.owner_uid, uids);
  identity.build_gids = rootless_build_range(identity.owner_gid, gids);
  if (auto entered = become_zero(rootless_map(identity.owner_uid, uids),
                                 rootless_map(identity.owner_gid, gids));
      !entered)
    return in_context("subordinate ids (" + subordinate_ids_mend() + ")", entered.error());
  return identity;
}

}  // namespace loam::node
