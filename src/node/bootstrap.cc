#include "node/bootstrap.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "base/clock.h"
#include "base/files.h"
#include "base/sha256.h"
#include "base/text.h"
#include "node/disk.h"
#include "node/disk_room.h"
#include "node/identity.h"
#include "node/socket.h"

namespace loam::node {
namespace {

constexpr rlim_t kDescriptorsWanted = 16'384;
constexpr std::int64_t kDyingLimitNs = 3'000'000'000;
constexpr long kDyingPauseNs = 10'000'000;

Result<void> check_environment() {
  for (const char* name : {"LOAM_STATE_DIR", "LOAM_RUNTIME_DIR", "LOAM_NODE_CONFIG"}) {
    const char* value = std::getenv(name);
    if (value != nullptr && value[0] != '\0' && value[0] != '/')
      return fail(ErrorCode::invalid,
                  std::string(name) + "=" + value + ": expected an absolute path");
  }
  return {};
}

Result<void> make_folder(const std::string& path, mode_t mode) {
  LOAM_CHECK(make_folders(path, mode));
  if (::chmod(path.c_str(), mode) != 0) return fail_errno(path);
  return {};
}

Result<bool> try_lock(const Fd& lock, const std::string& path) {
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (::fcntl(lock.get(), F_OFD_SETLK, &whole) == 0) return true;
  if (errno != EAGAIN && errno != EACCES) return fail_errno(path);
  return false;
}

// The lock file says by its content who holds it; the kernel's lock alone decides. A node that was
// killed or told to stop a moment ago holds it still and no longer listens: it is gone soon.
Result<Fd> take_node_lock(const Paths& paths) {
  const std::string path = paths.state + "/node.lock";
  Fd lock = LOAM_TRY(open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  const std::int64_t limit_ns = steady_ns() + kDyingLimitNs;
  while (!LOAM_TRY(try_lock(lock, path))) {
    if (node_listens(paths) || steady_ns() > limit_ns) {
      const auto holder = read_fd(lock.get(), 64);
      const std::string pid = holder ? std::string(trim(*holder)) : "";
      return fail(ErrorCode::busy, "a node already runs with the state in " + paths.state +
                                       (pid.empty() ? "" : " (process " + printable(pid) + ")"));
    }
    const timespec pause{0, kDyingPauseNs};
    ::nanosleep(&pause, nullptr);
  }
  give_up_spare_if_full(paths.state);
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(lock.get(), 0) != 0 || ::pwrite(lock.get(), pid.data(), pid.size(), 0) < 0)
    return fail_errno(path);
  return lock;
}

// Jobs inherit it too: the usual 1,024 is little for a data loader.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= kDescriptorsWanted) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, kDescriptorsWanted);
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

// Two nodes on one machine never share a group: all but the system's own carry their state folder's
// name.
std::string cgroup_name(const NodeContext& context) {
  if (is_system_state(context.paths.state)) return "loam";
  return "loam-" + sha256_of(context.paths.state).short_hex();
}

bool still_there(const sandbox::CgroupParents& parents) {
  if (!parents.v2.empty() && ::access(parents.v2.c_str(), W_OK) != 0) return false;
  for (const auto& [controller, folder] : parents.v1)
    if (::access(folder.c_str(), W_OK) != 0) return false;
  return parents.v2_limits || !parents.v2.empty() || !parents.v1.empty();
}

}  // namespace

// Those that jobs' and builds' own ids walk through are 0711; nobody may list them.
Result<void> make_state_folders(const Paths& paths) {
  LOAM_CHECK(make_folder(paths.attempts, 0700));
  LOAM_CHECK(make_folder(paths.secrets, 0700));
  LOAM_CHECK(make_folder(paths.checkpoints, 0700));
  for (const std::string* folder : {&paths.builds, &paths.outputs, &paths.homes, &paths.endpoints})
    LOAM_CHECK(make_folder(*folder, 0711));
  return {};
}

Result<Bootstrap> bootstrap() {
  LOAM_CHECK(check_environment());
  const bool root = ::geteuid() == 0;
  Bootstrap made;
  made.context.paths = paths_for(root);
  const Paths& paths = made.context.paths;
  ::umask(022);
  raise_descriptor_limit();
  // As the user still: both stay the user's own.
  LOAM_CHECK(make_folder(paths.state, root ? 0711 : 0700));
  LOAM_CHECK(make_folder(paths.runtime, root ? 0755 : 0700));
  LOAM_CHECK(refuse_network_filesystem(paths.state));
  made.lock = LOAM_TRY(take_node_lock(paths));
  auto identity = root ? reserve_ids() : enter_user_namespace();
  if (!identity) return tl::unexpected(identity.error());
  made.context.identity = *identity;
  LOAM_CHECK(make_state_folders(paths));
  return made;
}

Result<sandbox::CgroupParents> recorded_cgroups(Database& database, const NodeContext& context) {
  const std::string boot = boot_id();
  const auto rows = database.query("SELECT value FROM node_facts WHERE name = 'cgroups'", {});
  if (!rows.empty() && rows[0].json(0)["boot"].as_string() == boot) {
    auto parents = sandbox::cgroup_parents_from(rows[0].json(0)["parents"]);
    if (parents && still_there(*parents)) return parents;
  }
  const sandbox::CgroupParents found = sandbox::find_cgroup_parents(cgroup_name(context));
  database.write(
      "INSERT INTO node_facts (name, value) VALUES ('cgroups', ?) "
      "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
      {Json::object({{"boot", boot}, {"parents", sandbox::to_json(found)}}).dump()});
  LOAM_CHECK(database.commit_turn());
  return found;
}

}  // namespace loam::node
