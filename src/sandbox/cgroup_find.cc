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

namespace loam::sandbox {
namespace {

struct Hierarchy {
  bool v2 = false;
  std::vector<std::string> controllers;  // v1
  std::string folder;                    // this process's own group, as a path that we see
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
    if (option == "memory" || option == "cpu" || option == "pids") found.push_back(option);
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
    one.folder = below_mount(*group, unescape(fields[3]), unescape(fields[4]));
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

Result<void> write_control(const std::string& path, std::string_view value) {
  const Fd fd = LOAM_TRY(open_file(path, O_WRONLY));
  return write_full(fd.get(), value);
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

}  // namespace

Json to_json(const CgroupParents& parents) {
  Json v1 = Json::array();
  for (const auto& [controller, folder] : parents.v1) v1.push(Json::array({controller, folder}));
  return Json::object(
      {{"v2", parents.v2}, {"v2_limits", parents.v2_limits}, {"v1", std::move(v1)}});
}

Result<CgroupParents> cgroup_parents_from(const Json& document) {
  CgroupParents parents;
  parents.v2 = LOAM_TRY(document.string_at("v2"));
  parents.v2_limits = LOAM_TRY(document.bool_at("v2_limits"));
  for (const Json& item : document["v1"].as_array()) {
    const auto pair = item.as_strings();
    if (pair.size() != 2)
      return fail(ErrorCode::corrupt, "cgroup parents: v1: expected pairs of strings");
    parents.v1.emplace_back(pair[0], pair[1]);
  }
  return parents;
}

CgroupParents find_cgroup_parents(const std::string& name) {
  CgroupParents parents;
  for (const Hierarchy& hierarchy : hierarchies()) {
    const bool wanted =
        hierarchy.v2 ? parents.v2.empty()
                     : std::none_of(parents.v1.begin(), parents.v1.end(), [&](const auto& known) {
                         return known.first == hierarchy.controllers.front();
                       });
    if (!wanted) continue;
    const auto folder = make_parent(hierarchy.folder, name);
    if (!folder) continue;
    if (hierarchy.v2) {
      parents.v2 = *folder;
      parents.v2_limits = enable_v2_limits(hierarchy.folder, *folder);
      continue;
    }
    // A hierarchy with several controllers is one folder under each one's name.
    for (const std::string& controller : hierarchy.controllers)
      parents.v1.emplace_back(controller, *folder);
  }
  return parents;
}

}  // namespace loam::sandbox
