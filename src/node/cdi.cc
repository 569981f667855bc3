#include "node/cdi.h"

#include <algorithm>
#include <set>

#include "base/files.h"
#include "base/text.h"
#include "spec/yaml.h"

namespace loam::node {
namespace {

constexpr std::string_view kKind = "nvidia.com/gpu";
constexpr std::size_t kFilesMax = 64;  // of a folder

const spec::Node& member(const spec::Node& node, std::string_view key) {
  static const spec::Node kNone;
  for (const spec::Member& one : node.members)
    if (one.key == key) return one.value;
  return kNone;
}

bool is_path(const std::string& path) { return path.starts_with('/') && path.find("/../") == std::string::npos; }

void read_nodes(const spec::Node& edits, std::vector<std::string>& nodes) {
  for (const spec::Node& node : member(edits, "deviceNodes").items) {
    // Inside a job a node lies where it lies on the host: another place on the host is not ours to use.
    const std::string& path = member(node, "path").text;
    const std::string& host = member(node, "hostPath").text;
    if (is_path(path) && path.starts_with("/dev/") && (host.empty() || host == path))
      nodes.push_back(path);
  }
}

void read_mounts(const spec::Node& edits, Cdi& cdi) {
  for (const spec::Node& mount : member(edits, "mounts").items) {
    const Cdi::Mount one{member(mount, "hostPath").text, member(mount, "containerPath").text};
    if (is_path(one.from) && is_path(one.to) &&
        std::find(cdi.mounts.begin(), cdi.mounts.end(), one) == cdi.mounts.end())
      cdi.mounts.push_back(one);
  }
}

Result<void> read_one(const std::string& path, Cdi& cdi) {
  const std::string text = LOAM_TRY(read_file(path));
  if (text.find(kKind) == std::string::npos) return {};  // of another vendor, in whatever form
  const spec::Document document = spec::read_yaml(text);  // JSON is YAML
  if (!document.root || document.root->kind != spec::Node::Kind::map)
    return fail(ErrorCode::invalid,
                path + ": " + (document.problems.empty() ? "expected a map"
                                                         : document.problems.front().message));
  if (member(*document.root, "kind").text != kKind) return {};
  cdi.files.push_back(path);
  const spec::Node& edits = member(*document.root, "containerEdits");
  read_nodes(edits, cdi.common);
  read_mounts(edits, cdi);
  for (const spec::Node& device : member(*document.root, "devices").items) {
    const std::string& name = member(device, "name").text;
    if (name.empty() || name == "all") continue;
    read_nodes(member(device, "containerEdits"), cdi.nodes[name]);
    read_mounts(member(device, "containerEdits"), cdi);
  }
  return {};
}

void add_missing(const std::vector<std::string>& nodes, DeviceUnit& unit) {
  for (const std::string& node : nodes) {
    const auto has = [&](const std::vector<std::string>& list) {
      return std::find(list.begin(), list.end(), node) != list.end();
    };
    if (!has(unit.nodes) && !has(unit.common) && !has(unit.optional)) unit.optional.push_back(node);
  }
}

bool is_library(const std::string& path) {
  const std::string name = path.substr(path.rfind('/') + 1);
  return name.starts_with("lib") && name.find(".so") != std::string::npos;
}

}  // namespace

Result<Cdi> read_cdi(const std::vector<std::string>& folders) {
  Cdi cdi;
  for (const std::string& folder : folders) {
    auto names = list_folder(folder);
    if (!names) continue;
    std::sort(names->begin(), names->end());
    if (names->size() > kFilesMax) names->resize(kFilesMax);
    for (const std::string& name : *names)
      if (name.ends_with(".yaml") || name.ends_with(".yml") || name.ends_with(".json"))
        LOAM_CHECK(read_one(folder + "/" + name, cdi));
  }
  return cdi;
}

void add_cdi(const Cdi& cdi, const devices::GpuInventory& inventory, std::vector<DeviceUnit>& units) {
  if (cdi.files.empty()) return;
  std::map<std::string, std::string> second_name;  // by UUID: "0", of a slice "0:1"
  for (const devices::Gpu& gpu : inventory.gpus) {
    const std::string index = std::to_string(gpu.index);
    second_name[gpu.uuid] = index;
    for (std::size_t i = 0; i < gpu.slices.size(); ++i)
      second_name[gpu.slices[i].uuid] = index + ":" + std::to_string(i);
  }
  for (DeviceUnit& unit : units) {
    if (unit.uuid.empty()) continue;
    add_missing(cdi.common, unit);
    for (const std::string& name : {unit.uuid, second_name[unit.uuid]})
      if (const auto found = cdi.nodes.find(name); found != cdi.nodes.end())
        add_missing(found->second, unit);
  }
}

void add_cdi(const Cdi& cdi, DriverFiles& driver) {
  std::set<std::string> names;
  for (const DriverFiles::Library& library : driver.libraries) names.insert(library.name);
  for (const Cdi::Mount& mount : cdi.mounts) {
    if (!is_library(mount.from)) {
      driver.others.push_back({mount.from, mount.to});
      continue;
    }
    const std::string name = mount.from.substr(mount.from.rfind('/') + 1);
    if (names.insert(name).second) driver.libraries.push_back({mount.from, name});
  }
}

}  // namespace loam::node
