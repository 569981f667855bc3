#include "node/purge.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>

#include "api/attempt.h"
#include "base/files.h"
#include "base/text.h"
#include "node/attempt_fence.h"
#include "node/bootstrap.h"
#include "node/identity.h"
#include "sandbox/device_lock.h"

namespace loam::node {
namespace {

constexpr std::int64_t kKillLimitMs = 10'000;

// Attempts whose shim lives: it holds their lock.
Result<std::vector<std::string>> living_attempts(const Paths& paths) {
  std::vector<std::string> living;
  for (const std::string& name : LOAM_TRY(list_folder(paths.attempts))) {
    const auto lock = take_lock(paths.attempts + "/" + name, false);
    if (!lock && lock.error().code == ErrorCode::busy) living.push_back(name);
  }
  return living;
}

// The groups that this node recorded (bootstrap.h), or would find now.
Result<sandbox::CgroupParents> groups_of(const NodeContext& context) {
  if (!path_exists(context.paths.database)) return sandbox::CgroupParents{};
  auto database = Database::open(context.paths.database, migrations());
  if (!database) return sandbox::CgroupParents{};  // a newer one, or damaged: it goes anyway
  return recorded_cgroups(**database, context);
}

// By its shim, which alone may kill it everywhere: a rootless job is in the namespace of a node
// that is gone. The shim goes once it has said that it is over and nobody listens any more.
Result<void> end_by_shim(const std::string& folder) {
  {
    const Fd shim = LOAM_TRY(connect_to_shim(folder, kKillLimitMs));
    const timeval limit{kKillLimitMs / 1000, 0};
    ::setsockopt(shim.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    const std::string packet = Json::object({{"type", "kill"}}).dump();
    if (::send(shim.get(), packet.data(), packet.size(), MSG_NOSIGNAL) < 0)
      return fail_errno("telling the shim of " + folder);
    std::string heard(api::kShimPacketBytesMax, '\0');
    for (bool over = false; !over;) {
      const ssize_t count = ::recv(shim.get(), heard.data(), heard.size(), 0);
      if (count < 0) return fail_errno("waiting for the end of " + folder);
      const auto said =
          Json::parse(std::string_view(heard).substr(0, static_cast<std::size_t>(count)));
      over = count == 0 || (said && (*said)["type"].as_string() == "exited");
    }
  }
  LOAM_CHECK(await_lock(folder, kKillLimitMs));
  return {};
}

Result<void> end_attempts(const NodeContext& context, bool force, std::vector<std::string>& said) {
  const auto living = LOAM_TRY(living_attempts(context.paths));
  if (!living.empty() && !force)
    return fail(ErrorCode::busy,
                "jobs that no node watches still run (attempt " + join(living, ", ") +
                    "): end them with loam node start and loam cancel, or with --force");
  for (const std::string& name : living)
    LOAM_CHECK(end_by_shim(context.paths.attempts + "/" + name));
  const sandbox::CgroupParents parents = LOAM_TRY(groups_of(context));
  for (const std::string& name : sandbox::list_cgroups(parents)) {
    const auto group = sandbox::cgroup_paths(parents, name);
    LOAM_CHECK(sandbox::kill_cgroup(group, kKillLimitMs));
    LOAM_CHECK(sandbox::remove_cgroup(group));
  }
  if (!living.empty()) said.push_back("ended " + std::to_string(living.size()) + " running");
  sandbox::remove_cgroup_parents(parents);
  return {};
}

}  // namespace

Result<bool> remove_device_locks(const std::string& folder) {
  if (!path_exists(folder)) return false;
  for (const std::string& name : LOAM_TRY(list_folder(folder))) {
    const std::string path = folder + "/" + name;
    const auto file = open_file(path, O_RDWR | O_NOFOLLOW);
    if (!file || ::flock(file->get(), LOCK_EX | LOCK_NB) != 0) continue;
    if (::unlink(path.c_str()) != 0) return fail_errno(path);
  }
  return ::rmdir(folder.c_str()) == 0;
}

Result<std::vector<std::string>> purge(const PurgeOptions& options) {
  const bool root = ::geteuid() == 0;
  std::vector<std::string> said;
  if (!path_exists(paths_for(root).state)) {
    said.push_back("nothing is kept at " + paths_for(root).state);
    return said;
  }
  const Bootstrap made = LOAM_TRY(bootstrap());
  const Paths& paths = made.context.paths;
  LOAM_CHECK(end_attempts(made.context, options.force, said));
  // The database first: what is left after a kill is a state without a past, which a second purge
  // or a new node takes as such.
  for (const char* suffix : {"", "-wal", "-shm"}) LOAM_CHECK(remove_tree(paths.database + suffix));
  LOAM_CHECK(remove_tree(paths.state));
  said.push_back("removed " + paths.state);
  LOAM_CHECK(remove_tree(paths.runtime));
  // What all root nodes of the machine share goes with the system's own.
  if (root && is_system_state(paths.state)) {
    if (LOAM_TRY(remove_device_locks(sandbox::kDeviceLockFolder)))
      said.push_back(std::string("removed ") + sandbox::kDeviceLockFolder);
    if (LOAM_TRY(release_ids()))
      said.push_back("removed the entries of loam in /etc/subuid and /etc/subgid");
  }
  return said;
}

}  // namespace loam::node
