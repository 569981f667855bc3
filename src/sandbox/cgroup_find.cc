// Where this process may make cgroups: its own group in every hierarchy that it can write.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>

#include "base/files.h"
#include "base/text.h"
#include "sandbox/cgroup.h"
#include "sandbox/control_file.h"

namespace loam::sandbox {
namespace {

struct Hierarchy {
  bool v2 = false;
  std::vector<std::string> controllers;  // v1
  std::string mount;                     // its top, as a path that we see
  std::string folder;                    // this process's own group, likewise
};

// mountinfo escapes blanks as \040 (proc_pid_mountinfo(5)).
std::string unescape(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain.push_back(static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                        (text[i + 3] - '0')));
      i += 3;
    } else {
      plain.push_back(text[i]);
    }
  }
  return plain;
}

// "/a/b" as seen through a mount of "/a" at POINT: POINT/b. A group outside the mounted part (seen
// in containers without a cgroup namespace): the mount's own top.
std::string below_mount(const std::string& group, const std::string& root,
                        const std::string& point) {
  if (root == "/") return group == "/" ? point : point + group;
  if (starts_with_path(group, root)) return point + group.substr(root.size());
  return point;
}

// This process's group for a hierarchy: the third field of its line in /proc/self/cgroup.
std::optional<std::string> own_group(const std::string& cgroup_file, bool v2,
                                     const std::vector<std::string>& controllers) {
  for (const std::string& line : split(cgroup_file, '\n')) {
    const auto first = line.find(':');
    const auto second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (v2 && names.empty()) return path;
    if (v2) continue;
    const auto listed = split(names, ',');
    if (std::find(listed.begin(), listed.end(), controllers.front()) != listed.end()) return path;
  }
  return std::nullopt;
}

std::vector<std::string> known_controllers(const std::string& super_options) {
  std::vector<std::string> found;
  for (const std::string& option : split(super_options, ','))
    if (option == "memory" || option == "cpu" || option == "pids" || option == "devices" ||
        option == "cpuset" || option == "hugetlb")
      found.push_back(option);
  return found;
}

std::vector<Hierarchy> hierarchies() {
  std::vector<Hierarchy> list;
  const auto mounts = read_file("/proc/self/mountinfo");
  const auto groups = read_file("/proc/self/cgroup");
  if (!mounts || !groups) return list;
  for (const std::string& line : split(*mounts, '\n')) {
    const auto fields = split(line, ' ');
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (fields.size() < 6 || fields.end() - dash < 4) continue;
    Hierarchy one;
    one.v2 = dash[1] == "cgroup2";
    if (!one.v2 && dash[1] != "cgroup") continue;
    one.controllers = known_controllers(dash[3]);
    if (!one.v2 && one.controllers.empty()) continue;
    const auto group = own_group(*groups, one.v2, one.controllers);
    if (!group) continue;
    one.mount = unescape(fields[4]);
    one.folder = below_mount(*group, unescape(fields[3]), one.mount);
    list.push_back(std::move(one));
  }
  return list;
}

// Makes FOLDER/NAME where that is allowed and a process could be put there.
std::optional<std::string> make_parent(const std::string& folder, const std::string& name) {
  const std::string path = (folder == "/" ? "" : folder) + "/" + name;
  if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) return std::nullopt;
  if (::access((path + "/cgroup.procs").c_str(), W_OK) != 0) return std::nullopt;
  return path;
}

bool enable_controllers(const std::string& folder) {
  return write_control(folder + "/cgroup.subtree_control", "+memory +cpu +pids").has_value();
}

bool has_controllers(const std::string& folder) {
  const auto text = read_file(folder + "/cgroup.controllers");
  if (!text) return false;
  const auto names = split(std::string(trim(*text)), ' ');
  constexpr std::array kWanted{"memory", "cpu", "pids"};
  return std::all_of(kWanted.begin(), kWanted.end(), [&](const char* name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  });
}

// A v2 group may hold processes or hand controllers down, never both (cgroup-v2.rst, "No Internal
// Process Constraint"): this process first moves itself to NAME/node.
bool enable_v2_limits(const std::string& own, const std::string& parent) {
  if (!has_controllers(own)) return false;
  if (!enable_controllers(own)) {
    const std::string node = parent + "/node";
    if (::mkdir(node.c_str(), 0755) != 0 && errno != EEXIST) return false;
    if (!write_control(node + "/cgroup.procs", "0") || !enable_controllers(own)) return false;
  }
  return enable_controllers(parent);
}

using Pairs = std::vector<std::pair<std::string, std::string>>;

bool has(const Pairs& list, const std::string& name) {
  return std::any_of(list.begin(), list.end(),
                     [&](const auto& known) { return known.first == name; });
}

// The folder goes too, unless it is that of a controller that is needed.
void drop_devices(Pairs& v1) {
  const auto devices = std::find_if(v1.begin(), v1.end(),
                                    [](const auto& entry) { return entry.first == "devices"; });
  if (devices == v1.end()) return;
  const std::string folder = devices->second;
  v1.erase(devices);
  if (std::none_of(v1.begin(), v1.end(), [&](const auto& entry) { return entry.second == folder; }))
    (void)::rmdir(folder.c_str());
}

Json pairs_to_json(const Pairs& pairs) {
  Json list = Json::array();
  for (const auto& [controller, folder] : pairs) list.push(Json::array({controller, folder}));
  return list;
}

Result<Pairs> pairs_from(const Json& list) {
  Pairs pairs;
  for (const Json& item : list.as_array()) {
    const auto pair = item.as_strings();
    if (pair.size() != 2)
      return fail(ErrorCode::corrupt, "cgroup parents: expected pairs of strings");
    pairs.emplace_back(pair[0], pair[1]);
  }
  return pairs;
}

// The topmost group above our own that we may divide and that has the controllers: the hierarchy's
// root for root's node, user@UID.service for a user's. Not our own, where that is a unit of
// systemd's: attempts outlive the node, and systemd cannot start it again in a group that hands
// controllers down (before its version 254, DelegateSubgroup=).
std::optional<std::string> divisible_above(const Hierarchy& hierarchy) {
  if (!starts_with_path(hierarchy.folder, hierarchy.mount)) return std::nullopt;
  for (std::size_t end = hierarchy.mount.size(); end < hierarchy.folder.size();
       end = std::min(hierarchy.folder.find('/', end + 1), hierarchy.folder.size())) {
    const std::string candidate = hierarchy.folder.substr(0, end);
    if (::access((candidate + "/cgroup.procs").c_str(), W_OK) == 0 && has_controllers(candidate) &&
        enable_controllers(candidate))
      return candidate;
  }
  return std::nullopt;
}

}  // namespace

Json to_json(const CgroupParents& parents) {
  return Json::object({{"v2", parents.v2},
                       {"v2_limits", parents.v2_limits},
                       {"v1", pairs_to_json(parents.v1)},
                       {"v1_on_demand", pairs_to_json(parents.v1_on_demand)}});
}

Result<CgroupParents> cgroup_parents_from(const Json& document) {
  CgroupParents parents;
  parents.v2 = LOAM_TRY(document.string_at("v2"));
  parents.v2_limits = LOAM_TRY(document.bool_at("v2_limits"));
  parents.v1 = LOAM_TRY(pairs_from(document["v1"]));
  parents.v1_on_demand = LOAM_TRY(pairs_from(document["v1_on_demand"]));
  return parents;
}

CgroupParents find_cgroup_parents(const std::string& name) {
  CgroupParents parents;
  for (const Hierarchy& hierarchy : hierarchies()) {
    const bool wanted = hierarchy.v2
                            ? parents.v2.empty()
                            : !has(parents.v1, hierarchy.controllers.front()) &&
                                  !has(parents.v1_on_demand, hierarchy.controllers.front());
    if (!wanted) continue;
    if (const auto above = hierarchy.v2 ? divisible_above(hierarchy) : std::nullopt) {
      const auto folder = make_parent(*above, name);
      if (folder && enable_controllers(*folder)) {
        parents.v2 = *folder;
        parents.v2_limits = true;
        continue;
      }
    }
    const auto folder = make_parent(hierarchy.folder, name);
    if (!folder) continue;
    if (hierarchy.v2) {
      parents.v2 = *folder;
      parents.v2_limits = enable_v2_limits(hierarchy.folder, *folder);
      continue;
    }
    // A hierarchy with several controllers is one folder under each one's name.
    const bool on_demand =
        std::all_of(hierarchy.controllers.begin(), hierarchy.controllers.end(),
                    [](const std::string& one) { return one == "cpuset" || one == "hugetlb"; });
    for (const std::string& controller : hierarchy.controllers)
      (on_demand ? parents.v1_on_demand : parents.v1).emplace_back(controller, *folder);
  }
  // The device program of v2 does more, and costs each attempt less, than another hierarchy.
  if (!parents.v2.empty()) drop_devices(parents.v1);
  return parents;
}

}  // namespace loam::sandbox
