#include "node/node_routes.h"

#include <unistd.h>

#include <utility>

#include "base/files.h"
#include "base/text.h"
#include "node/disk.h"
#include "node/identity.h"

namespace loam::node {
namespace {

// An environment with a framework in it takes this much while it is built.
constexpr std::uint64_t kFreeBytesWanted = 5ULL << 30;

Json check(const std::string& name, bool ok, const std::string& finding, const std::string& mend) {
  return Json::object({{"name", name}, {"ok", ok}, {"finding", finding}, {"mend", ok ? "" : mend}});
}

std::string range_text(const sandbox::IdRange& range) {
  return std::to_string(range.first) + " to " + std::to_string(range.first + range.count - 1);
}

Json id_check(const Identity& identity) {
  if (identity.single_id)
    return check("ids", false, "no subordinate ids: environments are base: host only",
                 subordinate_ids_mend());
  const std::string builds = "builds run as ids " + range_text(identity.build_uids);
  if (identity.rootless) {
    const bool whole =
        identity.build_uids.count >= kBuildIds && identity.build_gids.count >= kBuildIds;
    return check(
        "ids", true,
        builds +
            (whole ? " of this node's namespace"
                   : " of this node's namespace (fewer than 65536: a package that uses higher ids "
                     "cannot be installed)"),
        "");
  }
  return check("ids", true, builds + ", jobs of root as " + std::to_string(identity.job_uid), "");
}

Json disk_check(const std::string& state) {
  const auto disk = look_at_disk(state);
  if (!disk) return check("disk", false, disk.error().text, "");
  return check(
      "disk", disk->free_bytes >= kFreeBytesWanted,
      format_size(disk->free_bytes) + " of " + format_size(disk->total_bytes) + " free at " + state,
      "free some space (loam store gc), or set LOAM_STATE_DIR to a larger disk");
}

Json filesystem_check(const std::string& state) {
  const auto disk = look_at_disk(state);
  if (!disk) return check("filesystem", false, disk.error().text, "");
  return check("filesystem", !disk->network && !disk->vanishes, "state is on " + disk->filesystem,
               disk->vanishes ? "it ends with the boot: set LOAM_STATE_DIR to a folder on a disk"
                              : "set LOAM_STATE_DIR to a folder on a local disk");
}

Json program_check(const std::string& program, const std::string& what_for,
                   const std::string& package) {
  for (const char* folder : {"/usr/bin/", "/usr/sbin/", "/bin/", "/usr/local/bin/"})
    if (::access((folder + program).c_str(), X_OK) == 0)
      return check(program, true, folder + program, "");
  return check(program, false, "not found; " + what_for + " needs it", "apt install " + package);
}

Json file_check(const std::string& name, const std::string& path, const std::string& what_for) {
  return check(name, path_exists(path),
               path_exists(path) ? path : path + " is missing; " + what_for,
               "install Loam again, whole");
}

}  // namespace

NodeRoutes::NodeRoutes(Node& node, Runs& runs, std::function<void()> stop)
    : node_(node), runs_(runs), stop_(std::move(stop)) {}

void NodeRoutes::add_routes(Routes& routes) {
  routes.add("GET", "/v1/node", [this](const Request&, const Routes::Params&, ResponderPtr r) {
    r->reply(200, status());
  });
  routes.add("GET", "/v1/doctor", [this](const Request&, const Routes::Params&, ResponderPtr r) {
    r->reply(200, doctor());
  });
  routes.add("POST", "/v1/node/stop",
             [this](const Request& request, const Routes::Params&, ResponderPtr r) {
               stop(request, std::move(r));
             });
}

Json NodeRoutes::status() const {
  const sched::State& state = node_.queue.state();
  const Runs::Counts counts = runs_.counts();
  return Json::object(
      {{"version", LOAM_VERSION},
       {"pid", ::getpid()},
       {"started_ms", node_.started_ms},
       {"state", node_.context.paths.state},
       {"rootless", node_.context.identity.rootless},
       {"single_id", node_.context.identity.single_id},
       {"capacity", Json::object({{"cpus", node_.capacity.cpus},
                                  {"memory_bytes", node_.capacity.memory_bytes}})},
       {"used", Json::object({{"cpu_milli", state.used.cpu_milli},
                              {"memory_bytes", state.used.memory_bytes}})},
       {"guards", sandbox::to_json(node_.guards)},
       {"jobs", Json::object({{"running", counts.running}, {"waiting", counts.waiting}})}});
}

void NodeRoutes::stop(const Request& request, ResponderPtr responder) {
  const Identity& identity = node_.context.identity;
  const std::uint32_t owner = identity.rootless ? identity.owner_uid : 0;
  if (request.caller.uid != owner)
    return responder->reply_error(
        {ErrorCode::denied,
         "only " + std::string(identity.rootless ? "its user" : "root") + " may stop this node"});
  const auto end = [this, responder] {
    responder->reply(200, Json::object({{"stopping", true}}));
    stop_();
  };
  request.body["stop_jobs"].as_bool() ? runs_.stop_all(end) : end();
}

Json NodeRoutes::doctor() const {
  const Paths& paths = node_.context.paths;
  Json checks = Json::array();
  for (const sandbox::Guard& guard : node_.guards)
    checks.push(check("guard " + guard.name, guard.present, guard.finding, guard.mend));
  checks.push(id_check(node_.context.identity));
  checks.push(filesystem_check(paths.state));
  checks.push(disk_check(paths.state));
  checks.push(program_check("mmdebstrap", "base: debian:SUITE", "mmdebstrap"));
  if (node_.context.identity.rootless)
    checks.push(program_check("newuidmap", "a user's own node", "uidmap"));
  checks.push(file_check("loam-shim", program_folder() + "/loam-shim", "no job can start"));
  checks.push(
      file_check("loam-gateway", program_folder() + "/loam-gateway", "no service can be served"));
  checks.push(file_check("python sdk", program_share_folder() + "/python/loam/__init__.py",
                         "import loam fails in jobs"));
  return Json::object({{"checks", checks}, {"facts", node_.host_facts}});
}

}  // namespace loam::node
