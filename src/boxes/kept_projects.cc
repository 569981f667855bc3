#include "boxes/kept_projects.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>

#include "base/files.h"
#include "base/sha256.h"
#include "base/text.h"
#include "engines/service_manager.h"
#include "store/listing.h"

namespace loam::boxes {
namespace {

constexpr std::size_t kKeyDigits = 32;

}  // namespace

std::string home_folder() {
  if (const auto home = engines::from_environment("HOME")) return *home;
  const passwd* entry = ::getpwuid(::geteuid());
  return entry == nullptr ? "" : entry->pw_dir;
}

Result<std::string> kept_projects_folder() {
  if (const auto cache = engines::from_environment("XDG_CACHE_HOME");
      cache && cache->starts_with('/'))
    return *cache + "/loam";
  const std::string home = home_folder();
  if (!home.starts_with('/'))
    return fail(ErrorCode::unavailable,
                "this user has no home folder on it, where pushed projects would be kept");
  return home + "/.cache/loam";
}

Result<KeptProject> kept_project(const std::string& top, const std::string& key,
                                 const std::string& name) {
  const bool is_key = key.size() == kKeyDigits && std::all_of(key.begin(), key.end(), [](char c) {
                        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
                      });
  if (!is_key) return fail(ErrorCode::invalid, "the project's key is not 32 hex digits");
  if (name.empty() || name.find('/') != std::string::npos || !store::check_path(name))
    return fail(ErrorCode::invalid,
                "the project's name '" + printable(name.substr(0, 255)) + "' is no folder's");
  return KeptProject{top + "/projects/" + key + "/" + name, top + "/pushes/" + key};
}

std::string project_key(const std::string& folder) {
  char host[256] = "";
  (void)::gethostname(host, sizeof host - 1);
  const auto machine = read_file("/etc/machine-id", 256);  // not everywhere
  std::string text = machine.value_or("");
  for (const std::string& part : {std::string(host), std::to_string(::geteuid()), folder})
    text += '\0' + part;
  return sha256_of(text).hex().substr(0, kKeyDigits);
}

std::string project_name(const std::string& folder) {
  const std::string name = folder.substr(folder.rfind('/') + 1);
  return name.empty() ? "project" : name;
}

}  // namespace loam::boxes
