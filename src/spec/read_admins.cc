// `admins:` of the node's configuration: {groups: loam-admin, users: [anna, ben]}.
#include <algorithm>

#include "base/text.h"
#include "spec/checks.h"
#include "spec/node_config_parts.h"

namespace loam::spec {
namespace {

constexpr std::size_t kNamesMax = 256;
constexpr std::size_t kNameBytesMax = 256;  // LOGIN_NAME_MAX

// As user and group databases can hold them: neither of their separators, no path.
bool is_name(const std::string& text) {
  return text.size() <= kNameBytesMax && text.front() != '-' &&
         text.find_first_of(":,/ \t\n") == std::string::npos;
}

void read_name(const Value& value, std::string_view expected, std::vector<std::string>& names) {
  auto name = value.text(expected);
  if (!name) return;
  if (!is_name(*name)) return value.problem(quoted(*name) + " cannot be such a name");
  if (names.size() >= kNamesMax)
    return value.problem("more than " + std::to_string(kNamesMax) + " names");
  if (std::find(names.begin(), names.end(), *name) == names.end())
    names.push_back(std::move(*name));
}

std::vector<std::string> read_names(const Value& value, const std::string& one) {
  std::vector<std::string> names;
  if (!value.is_list()) {
    read_name(value, one + ", or a list of them", names);
    return names;
  }
  for (const Value& item : value.items("")) read_name(item, one, names);
  return names;
}

}  // namespace

Admins read_admins(const Value& value) {
  const Section section(value, {"groups", "users"}, "a map such as {groups: loam-admin}");
  Admins admins;
  admins.place = value.key_place();
  if (const auto item = section.find("groups"))
    admins.groups = read_names(*item, "the name of a group");
  if (const auto item = section.find("users"))
    admins.users = read_names(*item, "the name of a user");
  return admins;
}

Json to_json(const Admins& admins) {
  return Json::object({{"groups", Json::array_of(admins.groups)},
                       {"users", Json::array_of(admins.users)}});
}

}  // namespace loam::spec
