#include "node/node_routes.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "api/attach.h"
#include "api/openapi.h"
#include "base/files.h"
#include "base/log.h"
#include "base/text.h"
#include "node/backup.h"
#include "node/disk.h"
#include "node/identity.h"
#include "sandbox/device_lock.h"
#include "sandbox/sandbox.h"

namespace loam::node {
namespace {

constexpr const char* kBackupProtocol = "loam-backup";
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

// Whole where it is whole.
Json cpu_count(std::uint64_t cpu_milli) {
  if (cpu_milli % 1000 == 0) return cpu_milli / 1000;
  return static_cast<double>(cpu_milli) / 1000;
}

Json file_check(const std::string& name, const std::string& path, const std::string& what_for) {
  return check(name, path_exists(path),
               path_exists(path) ? path : path + " is missing; " + what_for,
               "install Loam again, whole");
}

// Null where nothing of NVIDIA's is there: not every machine is to have it.
Json gpu_check(const Devices& devices) {
  if (!devices.gpu_error().empty())
    return check("NVIDIA driver", false, devices.gpu_error(),
                 "load the driver (nvidia-smi says more), then: loam node reload");
  const devices::GpuInventory& gpus = devices.gpus();
  if (gpus.driver.empty()) return nullptr;
  const bool whole = !gpus.libraries.empty();
  return check("NVIDIA driver", whole,
               gpus.driver + ", CUDA " + gpus.cuda + ", " + std::to_string(gpus.gpus.size()) +
                   " GPUs" +
                   (whole ? ""
                          : "; no libraries of that version in " + gpus.folder +
                                ": environments of their own have none"),
               "install the driver's libraries (libcuda)");
}

Json lock_folder_check(const std::string& folder) {
  const auto made = sandbox::make_lock_folder(folder);
  return check("device locks", made.has_value(), made ? folder : made.error().text,
               "sudo install -d -m 1777 " + folder);
}

Json cpuset_check(const sandbox::CgroupParents& parents) {
  for (const auto& [controller, folder] : parents.v1_on_demand)
    if (controller == "cpuset")
      return check("cpuset", true, "pinned CPUs are enforced by cgroup v1 below " + folder, "");
  const auto offered =
      read_file(parents.v2.substr(0, parents.v2.rfind('/')) + "/cgroup.controllers");
  const auto names = split(offered ? std::string(trim(*offered)) : "", ' ');
  const bool v2 = !parents.v2.empty() && std::find(names.begin(), names.end(), "cpuset") != names.end();
  return check("cpuset", v2,
               v2 ? "pinned CPUs are enforced by cgroup v2 below " + parents.v2
                  : "no writable cgroup with cpuset: a pinned job's CPUs are an affinity, not enforced",
               sandbox::mend_for("pinning"));
}

}  // namespace

NodeRoutes::NodeRoutes(Node& node, Runs& runs, Actions actions)
    : node_(node), runs_(runs), actions_(std::move(actions)) {}

void NodeRoutes::add_routes(Routes& routes) {
  routes.add("GET", "/v1/openapi.json",
             [&routes](const Request&, const Routes::Params&, ResponderPtr responder) {
               responder->reply(200, api::openapi_document(routes.names()));
             });
  routes.add("GET", "/v1/node", [this](const Request&, const Routes::Params&, ResponderPtr r) {
    r->reply(200, status());
  });
  routes.add("GET", "/v1/doctor", [this](const Request&, const Routes::Params&, ResponderPtr r) {
    r->reply(200, doctor());
  });
  routes.add("POST", "/v1/node/backup",
             [this](const Request& request, const Routes::Params&, ResponderPtr r) {
               backup(request, std::move(r));
             });
  routes.add("POST", "/v1/node/stop",
             [this](const Request& request, const Routes::Params&, ResponderPtr r) {
               stop(request, std::move(r));
             });
  routes.add("POST", "/v1/node/reload",
             [this](const Request& request, const Routes::Params&, ResponderPtr r) {
               reload(request, std::move(r));
             });
}

Json NodeRoutes::status() const {
  const sched::State& state = node_.queue.state();
  const auto used = [&](std::size_t column) { return state.usable[column] - state.free[column]; };
  const Runs::Counts counts = runs_.counts();
  return Json::object(
      {{"version", LOAM_VERSION},
       {"pid", ::getpid()},
       {"started_ms", node_.started_ms},
       {"state", node_.context.paths.state},
       {"rootless", node_.context.identity.rootless},
       {"single_id", node_.context.identity.single_id},
       {"config", to_json(node_.config)},
       {"capacity", Json::object({{"cpus", cpu_count(state.machine.cpu_milli_total())},
                                  {"memory_bytes", state.machine.memory_total()}})},
       {"used", Json::object({{"cpu_milli", used(sched::kCpu)}, {"memory_bytes", used(sched::kMemory)}})},
       {"guards", sandbox::to_json(node_.guards)},
       {"jobs", Json::object({{"running", counts.running}, {"waiting", counts.waiting}})}});
}

Result<void> NodeRoutes::check_owner(const Request& request, const std::string& action) const {
  const Identity& identity = node_.context.identity;
  if (is_owner(identity, request.caller)) return {};
  return fail(ErrorCode::denied, "only " + std::string(identity.rootless ? "its user" : "root") +
                                     " may " + action);
}

void NodeRoutes::reload(const Request& request, ResponderPtr responder) {
  auto done = check_owner(request, "read this node's configuration again");
  if (done) done = actions_.reload();
  done ? responder->reply(200, to_json(node_.config)) : responder->reply_error(done.error());
}

// The connection is a worker's from the 101 on: frames of the archive's bytes, then its manifest,
// or what went wrong.
void NodeRoutes::backup(const Request& request, ResponderPtr responder) {
  if (const auto right = check_owner(request, "back up this node"); !right)
    return responder->reply_error(right.error());
  if (request.upgrade != kBackupProtocol)
    return responder->reply_error(
        {ErrorCode::invalid, "backup: expected the header 'Upgrade: loam-backup'"});
  auto held = runs_.hold_collection();
  if (!held) return responder->reply_error(held.error());
  const auto secrets = request.query.find("secrets");
  const BackupOptions options{.secrets = secrets != request.query.end() && secrets->second == "1"};
  responder->upgrade(kBackupProtocol, [this, options, held = *held](Fd taken) {
    auto connection = std::make_shared<Fd>(std::move(taken));
    node_.loop.offload(
        [this, options, connection] {
          const auto sink = [&](std::string_view bytes) {
            return write_full(connection->get(),
                              api::encode_frame(api::AttachFrame::output, bytes));
          };
          const auto written = write_backup(node_.context, options, sink);
          if (!written) log_warning("backup: " + written.error().text);
          (void)write_full(connection->get(),
                           written ? api::encode_frame(api::AttachFrame::exit, written->dump())
                                   : api::encode_frame(api::AttachFrame::error,
                                                       printable(written.error().text)));
        },
        [held, connection] { connection->reset(); });
  });
}

void NodeRoutes::stop(const Request& request, ResponderPtr responder) {
  if (auto checked = check_owner(request, "stop this node"); !checked)
    return responder->reply_error(checked.error());
  const auto end = [this, responder] {
    responder->reply(200, Json::object({{"stopping", true}}));
    actions_.stop();
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
  checks.push(lock_folder_check(node_.devices.lock_folder()));
  if (Json gpus = gpu_check(node_.devices); !gpus.is_null()) checks.push(std::move(gpus));
  checks.push(cpuset_check(node_.context.cgroups));
  checks.push(file_check("loam-shim", program_folder() + "/loam-shim", "no job can start"));
  checks.push(
      file_check("loam-gateway", program_folder() + "/loam-gateway", "no service can be served"));
  checks.push(file_check("python sdk", program_share_folder() + "/python/loam/__init__.py",
                         "import loam fails in jobs"));
  return Json::object({{"checks", checks}, {"facts", node_.host_facts}});
}

}  // namespace loam::node
