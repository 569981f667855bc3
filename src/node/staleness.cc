#include "node/staleness.h"

#include <algorithm>
#include <set>

#include "base/glob.h"
#include "base/text.h"

namespace loam::node {
namespace {

constexpr std::size_t kPathsNamedMax = 5;

Json strings(const std::map<std::string, std::string>& values) {
  Json object = Json::object();
  for (const auto& [name, value] : values) object.set(name, value);
  return object;
}

// Parts whose members are named one by one.
bool is_named_part(const std::string& part) {
  return part == "params" || part == "vars" || part == "data" || part == "upstream" ||
         part == "sweep";
}

void compare_members(const std::string& part, const Json& before, const Json& now,
                     std::vector<std::string>& found) {
  std::set<std::string> names;
  for (const auto& [name, value] : before.as_object()) names.insert(name);
  for (const auto& [name, value] : now.as_object()) names.insert(name);
  for (const std::string& name : names)
    if (before[name] != now[name]) found.push_back(part + "." + name);
}

// `code:` of a step, to be held against many paths.
class Code {
 public:
  explicit Code(const std::vector<std::string>& patterns)
      : patterns_(patterns), globs_(patterns.begin(), patterns.end()) {}
  bool has(const std::string& path) const {
    if (patterns_.empty()) return true;
    for (std::size_t i = 0; i < patterns_.size(); ++i)
      if (starts_with_path(path, patterns_[i]) || globs_[i].matches(path)) return true;
    return false;
  }

 private:
  const std::vector<std::string>& patterns_;
  const std::vector<Glob> globs_;
};

}  // namespace

Json step_key(const spec::Project& project, const spec::Step& step, const StepInputs& inputs) {
  Json mounts{Json::Array{}};
  for (const spec::Mount& mount : project.mounts)
    mounts.push(Json::object(
        {{"from", mount.from}, {"to", mount.to}, {"rw", mount.mode == spec::MountMode::rw}}));
  Json output;
  if (step.output)
    output = Json::object({{"model", step.output->model}, {"path", step.output->path}});
  Json key = Json::object({{"command", Json::array_of(step.run.argv)},
                       {"params", step.params.is_null() ? Json::object() : step.params},
                       {"vars", strings(project.vars)},
                       {"mounts", std::move(mounts)},
                       {"env", inputs.env},
                       {"data", strings(inputs.data)},
                       {"snapshot", inputs.snapshot},
                       {"upstream", strings(inputs.upstream)},
                       {"output", std::move(output)}});
  if (!step.sweep.empty()) {
    Json sweep = Json::object();
    for (const spec::Swept& swept : step.sweep) {
      Json values = Json::array();
      for (const Json& value : swept.values) values.push(value);
      sweep.set(swept.name, std::move(values));
    }
    key.set("sweep", std::move(sweep));
  }
  if (step.ranks > 0) key.set("ranks", step.ranks);  // the program sees WORLD_SIZE
  return key;
}

std::vector<std::string> changes(const Json& before, const Json& now) {
  std::vector<std::string> found;
  std::set<std::string> parts;
  for (const auto& [part, value] : before.as_object()) parts.insert(part);
  for (const auto& [part, value] : now.as_object()) parts.insert(part);
  for (const std::string& part : parts) {
    if (before[part] == now[part]) continue;
    const std::size_t known = found.size();
    if (is_named_part(part)) compare_members(part, before[part], now[part], found);
    if (found.size() == known) found.push_back(part);
  }
  return found;
}

std::vector<std::string> code_paths(const std::vector<std::string>& paths,
                                    const std::vector<std::string>& patterns) {
  const Code code(patterns);
  std::vector<std::string> chosen;
  for (const std::string& path : paths)
    if (code.has(path)) chosen.push_back(path);
  return chosen;
}

std::vector<store::ListingEntry> code_entries(const std::vector<store::ListingEntry>& listing,
                                              const std::vector<std::string>& patterns,
                                              const std::string& file_name) {
  const Code code(patterns);
  std::vector<store::ListingEntry> entries;
  for (const store::ListingEntry& entry : listing) {
    if (entry.type == store::ListingEntry::Type::folder) continue;
    if (entry.path == file_name || entry.path == "loam.lock" || entry.path == "loam.yaml") continue;
    if (code.has(entry.path)) entries.push_back(entry);
  }
  return entries;
}

std::vector<std::string> changed_paths(const std::vector<store::ListingEntry>& before,
                                       const std::vector<store::ListingEntry>& now) {
  std::map<std::string, std::pair<std::string, std::string>> views;
  const auto view = [](const store::ListingEntry& entry) {
    return entry.object.hex() + " " + entry.target;
  };
  for (const auto& entry : before) views[entry.path].first = view(entry);
  for (const auto& entry : now) views[entry.path].second = view(entry);
  std::vector<std::string> paths;
  for (const auto& [path, both] : views)
    if (both.first != both.second) paths.push_back(path);
  return paths;
}

std::vector<std::string> with_paths(std::vector<std::string> changes,
                                    const std::vector<std::string>& paths) {
  const auto found = std::find(changes.begin(), changes.end(), "snapshot");
  if (found == changes.end() || paths.empty()) return changes;
  std::vector<std::string> named;
  for (std::size_t i = 0; i < paths.size() && i < kPathsNamedMax; ++i)
    named.push_back("snapshot: " + printable(paths[i]));
  if (paths.size() > kPathsNamedMax)
    named.push_back("snapshot: " + std::to_string(paths.size() - kPathsNamedMax) + " more files");
  const auto at = changes.erase(found);
  changes.insert(at, named.begin(), named.end());
  return changes;
}

}  // namespace loam::node
