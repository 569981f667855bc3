#include "env/pip_settings.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "base/files.h"
#include "base/text.h"
#include "env/tool.h"

namespace loam::env {
namespace {

constexpr std::size_t kSettingsBytesMax = 4u << 20;
constexpr const char* kBundles[] = {"/etc/ssl/certs/ca-certificates.crt",
                                    "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"};

// Those that say where packages come from. Nothing that says where they go or what may be built.
bool is_taken(const std::string& name) {
  constexpr std::string_view kTaken[] = {
      "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS",
      "PIP_NO_INDEX",  "PIP_TRUSTED_HOST",    "PIP_PROXY",
      "PIP_TIMEOUT",   "PIP_RETRIES",         "PIP_DEFAULT_TIMEOUT",
      "PIP_PRE",       "PIP_PREFER_BINARY"};
  return name.ends_with("_proxy") || name.ends_with("_PROXY") ||
         std::find(std::begin(kTaken), std::end(kTaken), name) != std::end(kTaken);
}

// A file of the user's: opened below the home without leaving it, and only where it is the home's
// owner's, so that a link in a home cannot make the node read what its user may not.
std::optional<std::string> read_of_home(const std::string& home, const std::string& relative) {
  if (home.empty()) return std::nullopt;
  const auto base = open_file(home, O_PATH | O_DIRECTORY);
  if (!base) return std::nullopt;
  open_how how{};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  const Fd fd(
      static_cast<int>(::syscall(SYS_openat2, base->get(), relative.c_str(), &how, sizeof how)));
  struct stat file {
  }, folder{};
  if (!fd || ::fstat(fd.get(), &file) != 0 || ::fstat(base->get(), &folder) != 0)
    return std::nullopt;
  if (!S_ISREG(file.st_mode) || file.st_uid != folder.st_uid) return std::nullopt;
  auto text = read_fd(fd.get(), kSettingsBytesMax);
  return text ? std::optional(std::move(*text)) : std::nullopt;
}

// A file that a setting names by an absolute path: everybody's, or below the home and the user's
// own.
std::optional<std::string> read_named(const std::string& home, const std::string& path) {
  if (!home.empty() && starts_with_path(path, home) && path.size() > home.size())
    return read_of_home(home, path.substr(home.size() + 1));
  const auto fd = open_file(path, O_RDONLY | O_NONBLOCK);
  struct stat status {};
  if (!fd || ::fstat(fd->get(), &status) != 0 || !S_ISREG(status.st_mode) ||
      (status.st_mode & S_IROTH) == 0)
    return std::nullopt;
  auto text = read_fd(fd->get(), kSettingsBytesMax);
  return text ? std::optional(std::move(*text)) : std::nullopt;
}

class Settings {
 public:
  Settings(const Context& context, std::string io) : context_(context), io_(std::move(io)) {}

  Result<PipSettings> lay_out() {
    LOAM_CHECK(sandbox::give_folder(io_, context_.build_uids, context_.build_gids));
    for (const char* name :
         {"/home", "/home/.pip", "/home/.config", "/home/.config/pip", "/xdg", "/xdg/pip"})
      LOAM_CHECK(sandbox::give_folder(io_ + name, context_.build_uids, context_.build_gids));
    LOAM_CHECK(copy_configuration());
    LOAM_CHECK(copy_certificates());
    for (const auto& [name, value] : context_.proxy_environment)
      if (is_taken(name)) settings_.environment.emplace_back(name, value);
    settings_.environment.emplace_back("XDG_CONFIG_DIRS", inside("/xdg"));
    settings_.environment.emplace_back("PIP_CACHE_DIR", std::string(kInside) + "/work/cache");
    settings_.environment.emplace_back("PIP_BREAK_SYSTEM_PACKAGES", "1");
    settings_.environment.emplace_back("PIP_REQUIRE_VIRTUALENV", "0");
    find_folders();
    if (!settings_.folders.empty())
      settings_.environment.emplace_back("LOAM_FOLDERS", join(settings_.folders, ":"));
    return std::move(settings_);
  }

 private:
  static std::string inside(const std::string& relative) {
    return std::string(kInside) + "/io" + relative;
  }

  std::string variable(const std::string& name) const {
    for (const auto& [key, value] : context_.proxy_environment)
      if (key == name) return value;
    return "";
  }

  Result<void> put(const std::string& relative, std::string_view text) {
    LOAM_CHECK(write_file_atomic(io_ + relative, text, {.mode = 0600, .durable = false}));
    if (::lchown((io_ + relative).c_str(), context_.build_uids.first, context_.build_gids.first) !=
        0)
      return fail_errno(relative);
    return {};
  }

  Result<void> copy_configuration() {
    // The system's own: read with the node's rights, whatever its mode.
    if (const auto text = read_file("/etc/pip.conf", kSettingsBytesMax)) {
      configurations_.push_back(*text);
      LOAM_CHECK(put("/xdg/pip/pip.conf", *text));
    }
    for (const std::string name : {".pip/pip.conf", ".config/pip/pip.conf"})
      if (const auto text = read_of_home(context_.home, name)) {
        configurations_.push_back(*text);
        LOAM_CHECK(put("/home/" + name, *text));
      }
    if (const std::string named = variable("PIP_CONFIG_FILE"); named.starts_with('/'))
      if (const auto text = read_named(context_.home, named)) {
        configurations_.push_back(*text);
        LOAM_CHECK(put("/pip.conf", *text));
        settings_.environment.emplace_back("PIP_CONFIG_FILE", inside("/pip.conf"));
      }
    if (const auto text = read_of_home(context_.home, ".netrc"))
      LOAM_CHECK(put("/home/.netrc", *text));
    return {};
  }

  // The last that is named wins, as in pip: variables before files.
  Result<void> copy_certificates() {
    std::vector<std::string> candidates;
    for (const char* name : {"PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"})
      candidates.push_back(variable(name));
    for (auto text = configurations_.rbegin(); text != configurations_.rend(); ++text)
      for (const std::string& value : pip_conf_values(*text, "cert")) candidates.push_back(value);
    candidates.insert(candidates.end(), std::begin(kBundles), std::end(kBundles));
    for (const std::string& path : candidates) {
      const auto text = path.starts_with('/') ? read_named(context_.home, path) : std::nullopt;
      if (!text) continue;
      LOAM_CHECK(put("/ca.crt", *text));
      for (const char* name : {"PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"})
        settings_.environment.emplace_back(name, inside("/ca.crt"));
      break;
    }
    std::string client = variable("PIP_CLIENT_CERT");
    for (const std::string& configuration : configurations_)
      for (const std::string& value : pip_conf_values(configuration, "client-cert"))
        if (client.empty()) client = value;
    const auto text = client.starts_with('/') ? read_named(context_.home, client) : std::nullopt;
    if (text) {
      LOAM_CHECK(put("/client.pem", *text));
      settings_.environment.emplace_back("PIP_CLIENT_CERT", inside("/client.pem"));
    }
    return {};
  }

  // Not copied: the build's ids read there what everybody may.
  void find_folders() {
    std::vector<std::string> named = split(variable("PIP_FIND_LINKS"), ' ');
    for (const std::string& configuration : configurations_)
      for (const std::string& value : pip_conf_values(configuration, "find-links"))
        named.push_back(value);
    for (std::string path : named) {
      if (path.starts_with("file://")) path = path.substr(7);
      struct stat status {};
      const bool folder = path.starts_with('/') && path != "/" &&
                          ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode) &&
                          (status.st_mode & S_IXOTH) != 0;
      if (folder && std::find(settings_.folders.begin(), settings_.folders.end(), path) ==
                        settings_.folders.end())
        settings_.folders.push_back(path);
    }
  }

  const Context& context_;
  const std::string io_;
  PipSettings settings_;
  std::vector<std::string> configurations_;
};

}  // namespace

std::vector<std::string> pip_conf_values(std::string_view text, std::string_view key) {
  std::vector<std::string> values;
  bool wanted = false;
  for (const std::string& line : split(text, '\n')) {
    const std::string_view content = trim(line);
    if (content.empty() || content.front() == '#' || content.front() == ';') continue;
    if (line.front() == ' ' || line.front() == '\t') {
      if (wanted) values.emplace_back(content);
      continue;
    }
    const auto equals = content.find_first_of("=:");
    std::string name(trim(content.substr(0, equals)));
    std::replace(name.begin(), name.end(), '_', '-');
    wanted = equals != std::string_view::npos && name == key;
    if (!wanted) continue;
    for (const std::string& value : split(trim(content.substr(equals + 1)), ' '))
      if (!value.empty()) values.push_back(value);
  }
  return values;
}

Result<PipSettings> lay_out_pip_settings(const Context& context, const std::string& folder) {
  return Settings(context, folder + "/io").lay_out();
}

}  // namespace loam::env
