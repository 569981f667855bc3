#include <algorithm>

#include "base/text.h"
#include "spec/checks.h"
#include "spec/parts.h"

namespace loam::spec {
namespace {

const std::vector<std::string>& known_suites() {
  static const std::vector<std::string> kSuites{"buster",  "bullseye", "bookworm",  "trixie",
                                                "forky",   "sid",      "oldstable", "stable",
                                                "testing", "unstable"};
  return kSuites;
}

bool is_suite(std::string_view text) {
  return !text.empty() && text[0] >= 'a' && text[0] <= 'z' && text.size() <= kNameBytesMax &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.-") == std::string_view::npos;
}

// A suite that is not known may be a newer one than this program; a near miss of a known one is a
// slip.
std::string suite_problem(std::string_view suite) {
  const auto& known = known_suites();
  if (std::find(known.begin(), known.end(), suite) != known.end()) return "";
  if (!is_suite(suite))
    return quoted(suite) + " is no Debian suite; expected one such as debian:bookworm";
  const std::string near = nearest(suite, known);
  return near.empty() ? ""
                      : quoted(suite) + " is no Debian suite; did you mean 'debian:" + near + "'?";
}

std::string base_problem(std::string_view base) {
  static constexpr std::string_view kDebian = "debian:";
  if (base == "host") return "";
  if (base.starts_with(kDebian)) return suite_problem(base.substr(kDebian.size()));
  const auto& known = known_suites();
  const std::string start = quoted(base) + " is no base";
  if (std::find(known.begin(), known.end(), base) != known.end())
    return start + "; did you mean 'debian:" + std::string(base) + "'?";
  return start + "; expected 'host' or 'debian:SUITE', such as debian:bookworm";
}

// Debian Policy 5.6.1, with an optional =VERSION. A trailing '-' would tell apt to remove the
// package.
bool is_apt_package(std::string_view text) {
  static constexpr std::string_view kName = "abcdefghijklmnopqrstuvwxyz0123456789+.-";
  static constexpr std::string_view kVersion =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.+:~-";
  const auto equals = text.find('=');
  const std::string_view name = text.substr(0, equals);
  if (name.size() < 2 || name.find_first_not_of(kName) != std::string_view::npos) return false;
  if (name[0] == '+' || name[0] == '.' || name[0] == '-' || name.back() == '-') return false;
  if (equals == std::string_view::npos) return true;
  const std::string_view version = text.substr(equals + 1);
  return !version.empty() && version.find_first_not_of(kVersion) == std::string_view::npos;
}

std::vector<std::string> read_apt(const Value& value) {
  std::vector<std::string> packages;
  for (const Value& item : value.items("a list of Debian packages")) {
    const auto package = item.text("the name of a Debian package");
    if (!package) continue;
    if (!is_apt_package(*package))
      item.problem(
          quoted(*package) +
          " is no Debian package's name; expected lower-case letters, digits, '+', '-' and "
          "'.', and where wanted =VERSION");
    else if (std::find(packages.begin(), packages.end(), *package) != packages.end())
      item.problem(quoted(*package) + " is listed twice");
    else
      packages.push_back(*package);
  }
  return packages;
}

std::vector<std::string> read_pip_list(const Value& value) {
  std::vector<std::string> lines;
  for (const Value& item :
       value.items("a list of requirements or the name of a requirements file")) {
    const auto text = item.text("a requirement such as numpy==1.26.4");
    if (!text) continue;
    const std::string line(trim(*text));
    if (std::string wrong = requirement_problem(line); !wrong.empty())
      item.problem(std::move(wrong));
    else
      lines.push_back(line);
  }
  return lines;
}

void read_pip_file(const Value& value, Env& env) {
  const auto file = read_project_path(value, "the name of a requirements file");
  if (!file) return;
  env.pip_file = *file;
  const Folder* folder = value.reader().folder;
  if (folder == nullptr) return;
  if (!folder->has_file(*file))
    return value.problem(quoted(*file) +
                         ": no such file in the project; `pip:` takes the name of a "
                         "requirements file or a list [PACKAGE, …]");
  const auto text = folder->read(*file);
  if (!text) return value.problem(quoted(*file) + " cannot be read: " + text.error().text);
  env.pip = read_requirements(value, *file, *text);
}

}  // namespace

Env read_env(const Value& value) {
  const Section section(value, {"base", "apt", "pip"}, "a map with base, apt and pip");
  Env env;
  env.place = value.key_place();
  if (const auto base = section.find("base")) {
    if (const auto text = base->text("'host' or 'debian:SUITE'")) {
      if (std::string wrong = base_problem(*text); !wrong.empty())
        base->problem(std::move(wrong));
      else
        env.base = *text;
    }
  }
  if (const auto apt = section.find("apt")) {
    env.apt = read_apt(*apt);
    const auto base = section.find("base");
    if (!env.apt.empty() && (!base || base->node().text == "host"))
      apt->reader().problem(
          apt->key_place(), apt->key(),
          "the host's packages are not Loam's to change; add `base: debian:bookworm` "
          "(or another suite) beside it");
  }
  if (const auto pip = section.find("pip")) {
    if (pip->is_text())
      read_pip_file(*pip, env);
    else
      env.pip = read_pip_list(*pip);
  }
  return env;
}

}  // namespace loam::spec
