#include "node/gpu_units.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "base/files.h"
#include "base/text.h"
#include "node/runs_impl.h"
#include "sandbox/user_namespace.h"

namespace loam::node {
namespace {

constexpr std::uint32_t kOverflowUid = 65534;  // user_namespaces(7)
constexpr std::size_t kShortUuidBytes = 12;  // "GPU-2b5fbbe0", "MIG-2b5fbbe0": the driver knows them so

std::string gpu_node(const devices::Gpu& gpu) { return "/dev/nvidia" + std::to_string(gpu.minor); }
std::string access_node(std::int32_t minor) {
  return "/dev/nvidia-caps/nvidia-cap" + std::to_string(minor);
}

// As short as tells them apart.
std::string id_of(const std::string& uuid, std::set<std::string>& taken) {
  std::string id = uuid.substr(0, kShortUuidBytes);
  if (!taken.insert(id).second) taken.insert(id = uuid);
  return id;
}

DeviceUnit gpu_unit(const devices::Gpu& gpu, std::uint32_t time_slices, std::set<std::string>& taken) {
  DeviceUnit unit{.id = id_of(gpu.uuid, taken),
                  .kind = kGpuKind,
                  .model = gpu.model,
                  .memory_bytes = gpu.memory_bytes,
                  .numa = gpu.numa,
                  .uuid = gpu.uuid,
                  .time_slices = gpu.slices.empty() ? time_slices : 1,
                  .nodes = {},
                  .common = {"/dev/nvidiactl"},
                  .optional = {"/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"}};
  if (gpu.minor >= 0)
    unit.nodes = {gpu_node(gpu)};
  else
    unit.unusable = "the driver names no device node of it";
  if (gpu.mig && gpu.slices.empty()) unit.unusable = "MIG is on, and it has no slices";
  return unit;
}

DeviceUnit slice_unit(const devices::Gpu& gpu, const devices::MigSlice& slice,
                      const DeviceUnit& parent, std::set<std::string>& taken) {
  DeviceUnit unit = parent;
  unit.id = id_of(slice.uuid, taken);
  unit.model = slice.model;
  unit.memory_bytes = slice.memory_bytes;
  unit.uuid = slice.uuid;
  unit.parent = parent.id;
  unit.unusable = {};
  // Its own are the nodes that let a process into it; the GPU's node alone opens nothing.
  unit.common.push_back(gpu_node(gpu));
  if (slice.gpu_access >= 0 && slice.compute_access >= 0)
    unit.nodes = {access_node(slice.gpu_access), access_node(slice.compute_access)};
  else
    unit.unusable = "/proc/driver/nvidia/capabilities names no node of this slice";
  return unit;
}

constexpr const char* kShimName = "loam-shim";

// A number of /proc/PID/status; -1 where there is none.
std::int64_t status_number(std::int64_t pid, std::string_view key) {
  const auto text = read_file("/proc/" + std::to_string(pid) + "/status");
  if (!text) return -1;
  for (const std::string& line : split(*text, '\n')) {
    if (!line.starts_with(key) || line.size() < key.size() + 2) continue;
    std::int64_t number = -1;
    std::from_chars(line.data() + key.size() + 2, line.data() + line.size(), number);
    return number;
  }
  return -1;
}

std::string program_name(std::int64_t pid) {
  const auto text = read_file("/proc/" + std::to_string(pid) + "/comm");
  return text ? std::string(trim(*text)) : "";
}

std::string user_of(std::int64_t pid) {
  const std::int64_t uid = status_number(pid, "Uid");
  // A user's own node sees all strangers as one id.
  const bool stranger = uid == kOverflowUid && !sandbox::in_initial_user_namespace();
  return uid < 0 || stranger ? "" : user_name(static_cast<std::uint32_t>(uid));
}

// Whether a shim keeps it. By name: who calls a program of his own so hides his use of a GPU from those
// that share it, to which nothing holds him anyway.
bool is_of_a_job(std::int64_t pid) {
  constexpr int kDepthMax = 64;
  for (int depth = 0; pid > 1 && depth < kDepthMax; ++depth) {
    if (program_name(pid) == kShimName) return true;
    pid = status_number(pid, "PPid");
  }
  return false;
}

using Variables = std::vector<std::pair<std::string, std::string>>;

}  // namespace

std::vector<DeviceUnit> gpu_units(const devices::GpuInventory& inventory,
                                  std::uint32_t time_slices) {
  std::vector<DeviceUnit> units;
  std::set<std::string> taken;
  for (const devices::Gpu& gpu : inventory.gpus) {
    const DeviceUnit unit = gpu_unit(gpu, time_slices, taken);
    units.push_back(unit);
    for (const devices::MigSlice& slice : gpu.slices)
      units.push_back(slice_unit(gpu, slice, unit, taken));
  }
  return units;
}

std::vector<sched::Link> gpu_links(const devices::GpuInventory& inventory) {
  std::vector<std::string> ids;
  for (const DeviceUnit& unit : gpu_units(inventory))
    if (unit.parent.empty()) ids.push_back(unit.id);
  std::vector<sched::Link> links;
  for (const devices::GpuLink& link : inventory.links)
    if (link.a < ids.size() && link.b < ids.size())
      links.push_back({.a = ids[link.a], .b = ids[link.b], .bandwidth = link.bandwidth});
  return links;
}

void show_gpus(const std::vector<GrantedUnit>& units, Variables& variables) {
  std::vector<std::string> uuids;
  for (const GrantedUnit& granted : units)
    if (!granted.unit.uuid.empty()) uuids.push_back(granted.unit.uuid);
  if (uuids.empty()) return;
  for (const char* name : {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"})
    set_variable(variables, name, join(uuids, ","));
}

void add_driver(const DriverFiles& driver, api::AttemptPlan& plan) {
  if (plan.root == api::RootKind::tree)
    for (const DriverFiles::Other& other : driver.others)
      if (path_exists(other.from)) plan.binds.push_back({.from = other.from, .to = other.to});
  if (driver.libraries.empty()) return;
  for (const DriverFiles::Library& library : driver.libraries)
    if (path_exists(library.path))
      plan.binds.push_back(
          {.from = library.path, .to = std::string(kDriverFolder) + "/" + library.name});
  std::string path = kDriverFolder;
  for (const auto& [name, value] : plan.environment)
    if (name == "LD_LIBRARY_PATH" && !value.empty()) path += ":" + value;
  set_variable(plan.environment, "LD_LIBRARY_PATH", path);
}

std::optional<DeviceTrouble> gpu_trouble(const GrantedUnit& granted, const Json& state,
                                         const std::vector<std::string>& ignored) {
  const DeviceUnit& unit = granted.unit;
  if (state.has("lost"))
    return DeviceTrouble{.device = unit.id,
                         .reason = printable(state["lost"].as_string()),
                         .broken = true};
  if (!state.is_object())
    return DeviceTrouble{.device = unit.id, .reason = "the driver does not know it any more"};
  for (const Json& process : state["processes"].as_array()) {
    const std::int64_t pid = process.as_int();
    const std::string name = program_name(pid), user = user_of(pid);
    if (std::find(ignored.begin(), ignored.end(), name) != ignored.end()) continue;
    if (granted.shared() && is_of_a_job(pid)) continue;
    std::string who = (user.empty() ? "" : user + "'s ") + "process " + std::to_string(pid);
    if (!name.empty()) who += " (" + printable(name) + ")";
    return DeviceTrouble{.device = unit.id,
                         .reason = "used by " + who + ", which is none of Loam's",
                         .pid = static_cast<pid_t>(pid)};
  }
  return {};
}

std::vector<std::string> units_of_xid(const std::vector<DeviceUnit>& units,
                                      const devices::GpuInventory& inventory, const Json& event) {
  std::set<std::string> uuids{event["uuid"].as_string()};
  for (const devices::Gpu& gpu : inventory.gpus) {
    if (!uuids.contains(gpu.uuid)) continue;
    for (const devices::MigSlice& slice : gpu.slices)
      if (!event.has("gpu_instance") || event["gpu_instance"].as_int() == slice.gpu_instance)
        uuids.insert(slice.uuid);
    if (event.has("gpu_instance") && !gpu.slices.empty()) uuids.erase(gpu.uuid);
    break;
  }
  std::vector<std::string> ids;
  if (devices::is_xid_of_programs(static_cast<std::uint64_t>(event["xid"].as_int()))) return ids;
  for (const DeviceUnit& unit : units)
    if (!unit.uuid.empty() && uuids.contains(unit.uuid)) ids.push_back(unit.id);
  return ids;
}

}  // namespace loam::node
