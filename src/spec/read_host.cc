// What the project takes from the machine: mounts, vars, secrets, the endpoint, and what it keeps
// there.
#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "base/text.h"
#include "spec/checks.h"
#include "spec/parts.h"
#include "spec/scalar.h"

namespace loam::spec {
namespace {

constexpr std::size_t kMountsMax = 256;
constexpr std::size_t kVariablesMax = 1024;
constexpr std::int64_t kKeepMax = 1'000'000;
constexpr std::chrono::nanoseconds kKeepAttemptsMin = std::chrono::minutes(1);
constexpr std::chrono::nanoseconds kKeepAttemptsMax = std::chrono::hours(24 * 3650);

// The sandbox makes these itself; nothing may lie on or below them.
constexpr std::array<std::string_view, 4> kOwnFolders{"/proc", "/sys", "/dev", "/loam"};
// Without these as the environment or the sandbox made them nothing runs.
constexpr std::array<std::string_view, 13> kNeededFolders{
    "/",      "/project", "/bin",  "/boot", "/etc", "/home", "/lib",
    "/lib64", "/run",     "/sbin", "/tmp",  "/usr", "/var"};

std::string mount_target_problem(std::string_view path) {
  for (const std::string_view own : kOwnFolders)
    if (starts_with_path(path, own))
      return quoted(path) + " lies in " + std::string(own) +
             ", which the sandbox makes itself; choose another place, such as /data";
  if (std::find(kNeededFolders.begin(), kNeededFolders.end(), path) != kNeededFolders.end())
    return quoted(path) +
           " would hide what every job needs; choose a folder of its own, such as /data";
  return "";
}

std::string mount_source_problem(std::string_view path) {
  if (path == "/") return "'/' is the whole host; name the folder that the job needs";
  static constexpr std::array<std::string_view, 3> kKernel{"/proc", "/sys", "/dev"};
  for (const std::string_view kernel : kKernel)
    if (starts_with_path(path, kernel))
      return quoted(path) + " belongs to the kernel; jobs have a " + std::string(kernel) +
             " of their own";
  return "";
}

Mount read_mount(const Value& value) {
  const Section section(value, {"from", "to", "mode"},
                        "a map such as {from: /data/x, to: /data, mode: ro}");
  Mount mount;
  mount.place = value.place();
  if (const auto from = section.need("from", "a folder of the host")) {
    mount.from = read_absolute_path(*from, "a folder of the host").value_or("");
    if (std::string wrong = mount_source_problem(mount.from); !mount.from.empty() && !wrong.empty())
      from->problem(std::move(wrong));
  }
  if (const auto to = section.need("to", "the place where jobs see it")) {
    mount.to = read_absolute_path(*to, "the place where jobs see it").value_or("");
    if (std::string wrong = mount_target_problem(mount.to); !mount.to.empty() && !wrong.empty())
      to->problem(std::move(wrong));
  }
  if (const auto mode = section.find("mode"))
    if (mode->choice({"ro", "rw"}) == 1) mount.mode = MountMode::rw;
  return mount;
}

bool is_host_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '.';
}

bool is_host(std::string_view host) {
  if (host.starts_with('[') && host.ends_with(']') && host.size() > 4)
    return host.substr(1, host.size() - 2).find_first_not_of("0123456789abcdefABCDEF:.") ==
           std::string_view::npos;
  return !host.empty() && host.size() <= 253 && host[0] != '-' && host[0] != '.' &&
         std::all_of(host.begin(), host.end(), is_host_character);
}

}  // namespace

std::vector<Mount> read_mounts(const Value& value) {
  std::vector<Mount> mounts;
  for (const Value& item : value.items("a list of maps {from, to, mode}", Value::Items::maps)) {
    if (mounts.size() >= kMountsMax) {
      item.problem("more than " + std::to_string(kMountsMax) + " mounts");
      break;
    }
    Mount mount = read_mount(item);
    const auto same = std::find_if(mounts.begin(), mounts.end(), [&](const Mount& other) {
      return !mount.to.empty() && other.to == mount.to;
    });
    if (same != mounts.end())
      item.problem(quoted(mount.to) + " is taken by the mount at line " +
                   std::to_string(same->place.line));
    mounts.push_back(std::move(mount));
  }
  return mounts;
}

std::map<std::string, std::string> read_vars(const Value& value) {
  std::map<std::string, std::string> vars;
  for (const NamedValue& member :
       value.members("a map of variables such as {OMP_NUM_THREADS: \"2\"}")) {
    if (std::string wrong = variable_problem(member.name); !wrong.empty()) {
      value.reader().problem(member.value.key_place(), member.value.key(), std::move(wrong));
      continue;
    }
    const auto text = member.value.written("text, a number or a boolean");
    if (!text) continue;
    if (member.name.size() + 1 + text->size() > kArgumentBytesMax)
      member.value.problem("is longer than the " + std::to_string(kArgumentBytesMax) +
                           " bytes that Linux allows");
    else if (vars.size() >= kVariablesMax)
      member.value.problem("more than " + std::to_string(kVariablesMax) + " variables");
    else
      vars[member.name] = *text;
  }
  return vars;
}

std::vector<std::string> read_secrets(const Value& value) {
  std::vector<std::string> secrets;
  for (const Value& item :
       value.items("a list of names (values come from the environment or `loam secret`)")) {
    const auto name = item.text("the name of an environment variable");
    if (!name) continue;
    if (std::string wrong = variable_problem(*name); !wrong.empty())
      item.problem(std::move(wrong));
    else if (std::find(secrets.begin(), secrets.end(), *name) != secrets.end())
      item.problem(quoted(*name) + " is listed twice");
    else if (secrets.size() >= kVariablesMax)
      item.problem("more than " + std::to_string(kVariablesMax) + " secrets");
    else
      secrets.push_back(*name);
  }
  return secrets;
}

Keep read_keep(const Value& value) {
  const Section section(value, {"runs", "versions", "attempts"},
                        "a map with runs, versions and attempts");
  Keep keep;
  if (const auto runs = section.find("runs"))
    keep.runs = static_cast<int>(runs->integer({1, kKeepMax}).value_or(keep.runs));
  if (const auto versions = section.find("versions"))
    keep.versions = static_cast<int>(versions->integer({1, kKeepMax}).value_or(keep.versions));
  if (const auto attempts = section.find("attempts"))
    keep.attempts =
        attempts->duration({kKeepAttemptsMin, kKeepAttemptsMax}).value_or(keep.attempts);
  return keep;
}

std::optional<std::string> read_endpoint(const Value& value) {
  static constexpr std::string_view kExpected = "HOST:PORT, such as 127.0.0.1:8000";
  if (!value.is_text()) {
    value.wrong_type(kExpected);
    return {};
  }
  const std::string& text = value.node().text;
  const auto colon = text.rfind(':');
  if (colon == std::string::npos || !is_host(std::string_view(text).substr(0, colon))) {
    value.problem(quoted(text) + " is no endpoint; expected " + std::string(kExpected));
    return {};
  }
  const std::string port = text.substr(colon + 1);
  const bool clean = !port.empty() && port.find_first_not_of("0123456789") == std::string::npos;
  const auto number = clean ? parse_integer(port) : std::nullopt;
  if (!number || *number < 1 || *number > 65535 || has_leading_zero(port)) {
    value.problem("the port " + quoted(port) + " is out of range; expected 1 to 65535");
    return {};
  }
  return text;
}

}  // namespace loam::spec
