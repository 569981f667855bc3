#include "api/attempt.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "api/fields.h"

namespace loam::api {
namespace {

constexpr std::array<std::pair<Network, std::string_view>, 2> kNetworks{
    {{Network::host, "host"}, {Network::none, "none"}}};
constexpr std::array<std::pair<RootKind, std::string_view>, 2> kRoots{
    {{RootKind::host, "host"}, {RootKind::tree, "tree"}}};
constexpr std::array<std::pair<Scratch, std::string_view>, 2> kScratches{
    {{Scratch::memory, "memory"}, {Scratch::disk, "disk"}}};
constexpr std::array<std::pair<Owner, std::string_view>, 2> kOwners{
    {{Owner::as_is, "as_is"}, {Owner::root_is_user, "root_is_user"}}};
// Lists of pairs keep their order, so they are arrays of two strings and not objects.
Json pairs_to_json(const std::vector<std::pair<std::string, std::string>>& pairs) {
  Json list = Json::array();
  for (const auto& [name, value] : pairs) list.push(Json::array({name, value}));
  return list;
}

Result<std::vector<std::pair<std::string, std::string>>> pairs_at(const Json& document,
                                                                  std::string_view key) {
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const Json& item : document[key].as_array()) {
    const auto& parts = item.as_array();
    if (parts.size() != 2 || !parts[0].is_string() || !parts[1].is_string())
      return fail(ErrorCode::invalid, std::string(key) + ": expected pairs of strings");
    pairs.emplace_back(parts[0].as_string(), parts[1].as_string());
  }
  return pairs;
}

Json binds_to_json(const std::vector<BindPlan>& binds) {
  Json list = Json::array();
  for (const BindPlan& bind : binds)
    list.push(Json::object({{"from", bind.from},
                            {"to", bind.to},
                            {"writable", bind.writable},
                            {"owner", name_of(kOwners, bind.owner)},
                            {"opened_as_user", bind.opened_as_user}}));
  return list;
}

Result<std::vector<BindPlan>> binds_from(const Json& list) {
  std::vector<BindPlan> binds;
  for (const Json& item : list.as_array()) {
    BindPlan bind;
    bind.from = LOAM_TRY(item.string_at("from"));
    bind.to = LOAM_TRY(item.string_at("to"));
    bind.writable = LOAM_TRY(item.bool_at("writable"));
    bind.owner = LOAM_TRY(enum_at(item, "owner", kOwners));
    bind.opened_as_user = LOAM_TRY(item.bool_at("opened_as_user"));
    if (bind.from.empty() || bind.from[0] != '/' || bind.to.empty() || bind.to[0] != '/')
      return fail(ErrorCode::invalid, "binds: paths must be absolute");
    binds.push_back(std::move(bind));
  }
  return binds;
}

Json files_to_json(const std::vector<GeneratedFile>& files) {
  Json list = Json::array();
  for (const GeneratedFile& file : files)
    list.push(Json::object({{"path", file.path}, {"content", file.content}}));
  return list;
}

Result<std::vector<GeneratedFile>> files_from(const Json& list) {
  std::vector<GeneratedFile> files;
  for (const Json& item : list.as_array()) {
    GeneratedFile file;
    file.path = LOAM_TRY(item.string_at("path"));
    file.content = LOAM_TRY(item.string_at("content"));
    if (file.path.empty() || file.path[0] != '/')
      return fail(ErrorCode::invalid, "files: paths must be absolute");
    files.push_back(std::move(file));
  }
  return files;
}

Json devices_to_json(const std::vector<DevicePlan>& devices) {
  Json list = Json::array();
  for (const DevicePlan& device : devices)
    list.push(Json::object({{"path", device.path},
                            {"block", device.block},
                            {"major", device.major_number},
                            {"minor", device.minor_number}}));
  return list;
}

Result<std::vector<DevicePlan>> devices_from(const Json& list) {
  std::vector<DevicePlan> devices;
  for (const Json& item : list.as_array()) {
    DevicePlan device;
    device.path = LOAM_TRY(item.string_at("path"));
    device.block = LOAM_TRY(item.bool_at("block"));
    device.major_number = LOAM_TRY(number_at<std::uint32_t>(item, "major"));
    device.minor_number = LOAM_TRY(number_at<std::uint32_t>(item, "minor"));
    if (!device.path.starts_with("/dev/") || device.path.find("/..") != std::string::npos)
      return fail(ErrorCode::invalid, "devices: expected paths below /dev");
    devices.push_back(std::move(device));
  }
  return devices;
}

Json locks_to_json(const std::vector<DeviceLockPlan>& locks) {
  Json list = Json::array();
  for (const DeviceLockPlan& lock : locks)
    list.push(Json::object({{"device", lock.device},
                            {"names", Json::array_of(lock.names)},
                            {"count", lock.count},
                            {"shared", lock.shared}}));
  return list;
}

Result<std::vector<DeviceLockPlan>> locks_from(const Json& list) {
  std::vector<DeviceLockPlan> locks;
  for (const Json& item : list.as_array()) {
    DeviceLockPlan lock;
    lock.device = LOAM_TRY(item.string_at("device"));
    lock.names = item["names"].as_strings();
    lock.count = LOAM_TRY(number_at<std::uint32_t>(item, "count"));
    lock.shared = LOAM_TRY(item.bool_at("shared"));
    for (const std::string& name : lock.names)
      if (name.empty() || name[0] == '.' || name.find('/') != std::string::npos)
        return fail(ErrorCode::invalid, "device_locks: expected names of files");
    locks.push_back(std::move(lock));
  }
  return locks;
}

Json numbers_to_json(const std::vector<std::uint32_t>& numbers) {
  Json list = Json::array();
  for (const std::uint32_t number : numbers) list.push(number);
  return list;
}

Result<std::vector<std::uint32_t>> numbers_at(const Json& document, std::string_view key) {
  std::vector<std::uint32_t> numbers;
  for (const Json& item : document[key].as_array()) {
    const std::int64_t value = item.as_int(-1);
    if (value < 0 || value > std::numeric_limits<std::uint32_t>::max())
      return fail(ErrorCode::invalid, std::string(key) + ": out of range");
    numbers.push_back(static_cast<std::uint32_t>(value));
  }
  return numbers;
}

Json ranks_to_json(const std::vector<RankPlan>& ranks) {
  Json list = Json::array();
  for (const RankPlan& rank : ranks)
    list.push(Json::object({{"environment", pairs_to_json(rank.environment)},
                            {"cpus", numbers_to_json(rank.cpus)}}));
  return list;
}

Result<std::vector<RankPlan>> ranks_from(const Json& list) {
  if (list.size() > kRanksMax)
    return fail(ErrorCode::too_large, "ranks: over " + std::to_string(kRanksMax));
  std::vector<RankPlan> ranks;
  for (const Json& item : list.as_array())
    ranks.push_back({.environment = LOAM_TRY(pairs_at(item, "environment")),
                     .cpus = LOAM_TRY(numbers_at(item, "cpus"))});
  return ranks;
}

Json lane_to_json(const std::optional<LanePlan>& lane) {
  if (!lane) return {};
  return Json::object({{"run_folder", lane->run_folder}, {"output_folder", lane->output_folder}});
}

Result<std::optional<LanePlan>> lane_from(const Json& document) {
  if (document.is_null()) return std::nullopt;
  LanePlan lane;
  lane.run_folder = LOAM_TRY(document.string_at("run_folder"));
  lane.output_folder = LOAM_TRY(document.string_at("output_folder"));
  return lane;
}

// The four parts of a plan that attempt_plan_from reads, one function each.
Result<void> read_identity(const Json& document, AttemptPlan& plan) {
  plan.uid = LOAM_TRY(number_at<std::uint32_t>(document, "uid"));
  plan.gid = LOAM_TRY(number_at<std::uint32_t>(document, "gid"));
  plan.groups = LOAM_TRY(numbers_at(document, "groups"));
  plan.hostname = LOAM_TRY(document.string_at("hostname"));
  if (plan.uid == 0 || plan.gid == 0) return fail(ErrorCode::invalid, "uid, gid: no job runs as 0");
  return {};
}

Result<void> read_files(const Json& document, AttemptPlan& plan) {
  plan.root = LOAM_TRY(enum_at(document, "root", kRoots));
  plan.root_tree = LOAM_TRY(document.string_at("root_tree"));
  plan.root_masks = document["root_masks"].as_strings();
  plan.scratch = LOAM_TRY(enum_at(document, "scratch", kScratches));
  plan.scratch_folder = LOAM_TRY(document.string_at("scratch_folder"));
  plan.project_tree = LOAM_TRY(document.string_at("project_tree"));
  plan.project_owner = LOAM_TRY(enum_at(document, "project_owner", kOwners));
  plan.project_upper = LOAM_TRY(document.string_at("project_upper"));
  plan.binds = LOAM_TRY(binds_from(document["binds"]));
  plan.files = LOAM_TRY(files_from(document["files"]));
  return {};
}

Result<void> read_devices(const Json& document, AttemptPlan& plan) {
  plan.devices = LOAM_TRY(devices_from(document["devices"]));
  plan.device_locks = LOAM_TRY(locks_from(document["device_locks"]));
  plan.device_lock_folder = LOAM_TRY(document.string_at("device_lock_folder"));
  plan.device_lock_owner = LOAM_TRY(document.string_at("device_lock_owner"));
  plan.cpus = LOAM_TRY(numbers_at(document, "cpus"));
  plan.memory_nodes = LOAM_TRY(numbers_at(document, "memory_nodes"));
  plan.pinned = LOAM_TRY(document.bool_at("pinned"));
  plan.huge_page_bytes = LOAM_TRY(number_at<std::uint64_t>(document, "huge_page_bytes"));
  plan.huge_bytes = LOAM_TRY(number_at<std::uint64_t>(document, "huge_bytes"));
  if (!plan.device_locks.empty() && !plan.device_lock_folder.starts_with('/'))
    return fail(ErrorCode::invalid, "device_lock_folder: expected an absolute path");
  return {};
}

Result<void> read_limits(const Json& document, AttemptPlan& plan) {
  plan.network = LOAM_TRY(enum_at(document, "network", kNetworks));
  plan.cgroup.v2 = LOAM_TRY(document["cgroup"].string_at("v2"));
  plan.cgroup.v1 = LOAM_TRY(pairs_at(document["cgroup"], "v1"));
  plan.memory_bytes = LOAM_TRY(number_at<std::uint64_t>(document, "memory_bytes"));
  plan.cpu_milli = LOAM_TRY(number_at<std::uint32_t>(document, "cpu_milli"));
  plan.processes_max = LOAM_TRY(number_at<std::uint32_t>(document, "processes_max"));
  plan.shm_bytes = LOAM_TRY(number_at<std::uint64_t>(document, "shm_bytes"));
  plan.time_limit_ms = LOAM_TRY(number_at<std::int64_t>(document, "time_limit_ms"));
  if (document.has("idle_limit_ms"))  // none in a plan of an older node
    plan.idle_limit_ms = LOAM_TRY(number_at<std::int64_t>(document, "idle_limit_ms"));
  plan.grace_ms = LOAM_TRY(number_at<std::int64_t>(document, "grace_ms"));
  if (document.has("checkpoint_signal")) {  // a plan of a node from before there were checkpoints
    plan.checkpoint_signal = LOAM_TRY(number_at<int>(document, "checkpoint_signal"));
    plan.checkpoint_grace_ms = LOAM_TRY(number_at<std::int64_t>(document, "checkpoint_grace_ms"));
  }
  plan.output_bytes_max = LOAM_TRY(number_at<std::uint64_t>(document, "output_bytes_max"));
  plan.terminal = LOAM_TRY(document.bool_at("terminal"));
  plan.standard_input = LOAM_TRY(document.bool_at("standard_input"));
  plan.require = document["require"].as_strings();
  if (document.has("missing"))  // none in a plan of an older node
    plan.missing = LOAM_TRY(missing_guards_from(document["missing"]));
  return {};
}

}  // namespace

Json to_json(const AttemptPlan& plan) {
  return Json::object({
      {"version", kAttemptPlanVersion},
      {"attempt", plan.attempt},
      {"folder", plan.folder},
      {"argv", Json::array_of(plan.argv)},
      {"environment", pairs_to_json(plan.environment)},
      {"ranks", ranks_to_json(plan.ranks)},
      {"lane", lane_to_json(plan.lane)},
      {"secrets_file", plan.secrets_file},
      {"directory", plan.directory},
      {"uid", plan.uid},
      {"gid", plan.gid},
      {"groups", numbers_to_json(plan.groups)},
      {"hostname", plan.hostname},
      {"root", name_of(kRoots, plan.root)},
      {"root_tree", plan.root_tree},
      {"root_masks", Json::array_of(plan.root_masks)},
      {"scratch", name_of(kScratches, plan.scratch)},
      {"scratch_folder", plan.scratch_folder},
      {"project_tree", plan.project_tree},
      {"project_owner", name_of(kOwners, plan.project_owner)},
      {"project_upper", plan.project_upper},
      {"binds", binds_to_json(plan.binds)},
      {"files", files_to_json(plan.files)},
      {"network", name_of(kNetworks, plan.network)},
      {"cgroup", Json::object({{"v2", plan.cgroup.v2}, {"v1", pairs_to_json(plan.cgroup.v1)}})},
      {"devices", devices_to_json(plan.devices)},
      {"device_locks", locks_to_json(plan.device_locks)},
      {"device_lock_folder", plan.device_lock_folder},
      {"device_lock_owner", plan.device_lock_owner},
      {"cpus", numbers_to_json(plan.cpus)},
      {"memory_nodes", numbers_to_json(plan.memory_nodes)},
      {"pinned", plan.pinned},
      {"huge_page_bytes", plan.huge_page_bytes},
      {"huge_bytes", plan.huge_bytes},
      {"memory_bytes", plan.memory_bytes},
      {"cpu_milli", plan.cpu_milli},
      {"processes_max", plan.processes_max},
      {"shm_bytes", plan.shm_bytes},
      {"time_limit_ms", plan.time_limit_ms},
      {"idle_limit_ms", plan.idle_limit_ms},
      {"grace_ms", plan.grace_ms},
      {"checkpoint_signal", plan.checkpoint_signal},
      {"checkpoint_grace_ms", plan.checkpoint_grace_ms},
      {"output_bytes_max", plan.output_bytes_max},
      {"terminal", plan.terminal},
      {"standard_input", plan.standard_input},
      {"require", Json::array_of(plan.require)},
      {"missing", to_json(plan.missing)},
  });
}

Result<AttemptPlan> attempt_plan_from(const Json& document) {
  const auto read = [&]() -> Result<AttemptPlan> {
    if (const auto version = LOAM_TRY(document.int_at("version")); version != kAttemptPlanVersion)
      return fail(ErrorCode::invalid, "version " + std::to_string(version) + ", expected " +
                                          std::to_string(kAttemptPlanVersion));
    AttemptPlan plan;
    plan.attempt = LOAM_TRY(document.string_at("attempt"));
    plan.folder = LOAM_TRY(document.string_at("folder"));
    plan.argv = document["argv"].as_strings();
    if (plan.argv.empty()) return fail(ErrorCode::invalid, "argv: empty");
    plan.environment = LOAM_TRY(pairs_at(document, "environment"));
    plan.ranks = LOAM_TRY(ranks_from(document["ranks"]));
    plan.lane = LOAM_TRY(lane_from(document["lane"]));
    plan.secrets_file = LOAM_TRY(document.string_at("secrets_file"));
    plan.directory = LOAM_TRY(document.string_at("directory"));
    LOAM_CHECK(read_identity(document, plan));
    LOAM_CHECK(read_files(document, plan));
    LOAM_CHECK(read_devices(document, plan));
    LOAM_CHECK(read_limits(document, plan));
    return plan;
  };
  auto plan = read();
  if (!plan) return in_context("attempt plan", plan.error());
  return plan;
}

}  // namespace loam::api
