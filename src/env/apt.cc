#include "env/apt.h"

#include <fcntl.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "base/files.h"
#include "base/text.h"
#include "env/apt_sources.h"

namespace loam::env {
namespace {

// Essential packages are not all that a system needs to install others; "required" is what
// debootstrap's minbase adds to them.
constexpr const char* kBaseSet = "?or(?essential,?priority(required))";

bool all_of(std::string_view text, std::string_view allowed) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           allowed.find(c) != std::string_view::npos;
  });
}

// How to reach mirrors, from the host: proxies, timeouts, CA bundles, checks. What decides which
// index files are fetched stays apt's default, and hooks of the host are not run.
bool is_transport_option(std::string_view line) {
  if (!line.starts_with("Acquire::")) return false;
  constexpr std::string_view kLeftOut[] = {"Acquire::IndexTargets", "Acquire::Languages",
                                           "Acquire::GzipIndexes",  "Acquire::Compression",
                                           "Acquire::cdrom",        "Acquire::Changelogs",
                                           "Acquire::Send-URI",     "Acquire::ForceHash"};
  return std::none_of(std::begin(kLeftOut), std::end(kLeftOut),
                      [&](std::string_view prefix) { return line.starts_with(prefix); });
}

std::string host_transport_options() {
  const auto output = run_collect({.argv = {"apt-config", "dump"}});
  if (!output) return "";
  std::string text;
  for (const std::string& line : split(output->standard_output, '\n'))
    if (is_transport_option(line)) text += line + "\n";
  return text;
}

std::string decoded(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    const bool escape = text[i] == '%' && i + 2 < text.size() &&
                        std::from_chars(&text[i + 1], &text[i + 3], value, 16).ptr == &text[i + 3];
    result += escape ? static_cast<char>(value) : text[i];
    if (escape) i += 2;
  }
  return result;
}

// The package of "Get:4 http://mirror bookworm/main amd64 zlib1g amd64 1:1.2.13 [86.7 kB]".
std::string fetched_package(std::string_view line) {
  const auto words = split(line, ' ');
  return line.starts_with("Get:") && words.size() >= 7 ? words[4] : "";
}

std::string name_of(const std::string& wanted) {
  return wanted.substr(0, wanted.find_first_of("=:/"));
}

}  // namespace

std::string debian_architecture() {
#if defined(__x86_64__)
  return "amd64";
#elif defined(__aarch64__)
  return "arm64";
#else
#error "this architecture has no Debian name here yet"
#endif
}

std::string Deb::file() const {
  std::string escaped;
  for (const char c : version) escaped += c == ':' ? std::string("%3a") : std::string(1, c);
  return name + "_" + escaped + "_" + architecture + ".deb";
}

Result<Deb> parse_uri_line(std::string_view line) {
  const auto bad = [&] {
    return fail(ErrorCode::corrupt, "apt-get: unexpected line: " + printable(line));
  };
  const auto quote = line.rfind('\'');
  if (!line.starts_with('\'') || quote == 0 || quote + 2 > line.size()) return bad();
  const auto words = split(line.substr(quote + 2), ' ');
  if (words.size() != 3 || !words[2].starts_with("SHA256:") || !words[0].ends_with(".deb"))
    return bad();
  const auto parts = split(words[0].substr(0, words[0].size() - 4), '_');
  if (parts.size() != 3) return bad();
  Deb deb{parts[0], decoded(parts[1]), parts[2], {}, 0};
  deb.sha256 = LOAM_TRY(Digest::parse(words[2].substr(7)));
  const auto parsed =
      std::from_chars(words[1].data(), words[1].data() + words[1].size(), deb.size_bytes);
  if (parsed.ec != std::errc()) return bad();
  return deb;
}

bool valid_suite(std::string_view suite) {
  return all_of(suite, "-.") && suite.front() != '-' && suite.front() != '.';
}

Result<void> check_package_name(const std::string& wanted) {
  const std::string name = name_of(wanted);
  const bool fine = all_of(name, "+.-") && name.size() >= 2 && name.front() != '-' &&
                    name.front() != '+' && name.front() != '.' && name.back() != '-' &&
                    wanted.size() <= 200;
  std::string rest = wanted.substr(name.size());
  std::transform(rest.begin(), rest.end(), rest.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (fine && (rest.empty() || all_of(rest, "=:/+.~-"))) return {};
  return fail(ErrorCode::invalid,
              "apt: '" + printable(wanted) +
                  "' is no package name; expected a name such as python3-numpy, or NAME=VERSION");
}

std::string missing_package_text(const std::string& wanted, const std::string& suite,
                                 const std::vector<std::string>& names) {
  const std::string near = nearest(name_of(wanted), names);
  return wanted + ": no such package in debian:" + suite +
         (near.empty() ? "" : " (did you mean " + near + "?)");
}

SpawnOptions Apt::command(std::vector<std::string> argv) const {
  SpawnOptions options;
  options.argv = std::move(argv);
  options.environment = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                         "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive",
                         "APT_CONFIG=" + folder_ + "/apt.conf", "HOME=" + folder_};
  for (const auto& [name, value] : context_.proxy_environment)
    if (name.ends_with("_proxy")) options.environment.push_back(name + "=" + value);
  options.directory = folder_;
  return options;
}

Result<void> Apt::write_configuration() const {
  const std::string text =
      host_transport_options() +
      "Dir::Etc::main \"/dev/null\";\n"
      "Dir::Etc::parts \"/dev/null\";\n"
      "Dir::Etc::sourcelist \"/dev/null\";\n"
      "Dir::Etc::sourceparts \"" +
      folder_ +
      "/sources.d\";\n"
      "Dir::Etc::preferences \"/dev/null\";\n"
      "Dir::Etc::preferencesparts \"/dev/null\";\n"
      "Dir::State \"" +
      folder_ +
      "/state\";\n"
      "Dir::State::status \"" +
      folder_ +
      "/state/status\";\n"
      "Dir::Cache \"" +
      folder_ +
      "/cache\";\n"
      "Dir::Log \"" +
      folder_ +
      "\";\n"
      "APT::Architecture \"" +
      debian_architecture() +
      "\";\n"
      "APT::Architectures {\"" +
      debian_architecture() +
      "\";};\n"
      // The state is this process's own; a node in a user namespace may not become _apt.
      "APT::Sandbox::User \"root\";\n"
      "APT::Install-Recommends \"false\";\n"
      "APT::Get::Assume-Yes \"true\";\n"
      "Acquire::Languages \"none\";\n"
      "Acquire::ForceHash \"SHA256\";\n";
  // Proxies may carry a password.
  return write_file_atomic(folder_ + "/apt.conf", text, {.mode = 0600, .durable = false});
}

Result<Apt> Apt::open(const Context& context, const std::string& folder, const std::string& suite) {
  LOAM_CHECK(require_program("apt-get", "apt"));
  const std::string sources = LOAM_TRY(sources_for(read_sources("/etc/apt"), suite));
  Apt apt(context, folder, suite);
  for (const char* name : {"/sources.d", "/state/lists/partial", "/cache/archives/partial"})
    LOAM_CHECK(make_folders(folder + name, 0755));
  LOAM_CHECK(write_file_atomic(folder + "/state/status", "", {.durable = false}));
  LOAM_CHECK(write_file_atomic(folder + "/sources.d/loam.sources", sources, {.durable = false}));
  LOAM_CHECK(apt.write_configuration());
  LOAM_CHECK(apt.update());
  return apt;
}

Result<void> Apt::update() {
  report(context_, {"apt: reading the package lists", 0, 0, "debian:" + suite_});
  // Without Error-Mode a list that failed to load would be no error.
  const auto ended = LOAM_TRY(
      run_lines(context_, command({"apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update"}),
                nullptr));
  if (ended.ok()) return {};
  const bool absent =
      std::any_of(ended.tail.begin(), ended.tail.end(), [](const std::string& line) {
        return line.find("does not have a Release file") != std::string::npos;
      });
  const std::string near = nearest(suite_, known_suites());
  if (absent && near != suite_)
    return fail(ErrorCode::not_found,
                "debian:" + suite_ + ": the configured mirror has no such suite" +
                    (near.empty() ? "" : " (did you mean debian:" + near + "?)"));
  return fail(ErrorCode::unavailable,
              "the package lists of debian:" + suite_ + " cannot be had: " + condensed(ended.tail));
}

Result<void> Apt::check_known(const std::vector<std::string>& wanted) {
  const auto output = LOAM_TRY(run_collect(command({"apt-cache", "pkgnames"})));
  auto names = split(output.standard_output, '\n');
  const std::set<std::string> known(names.begin(), names.end());
  std::vector<std::string> problems;
  for (const std::string& one : wanted) {
    const std::string name = name_of(one);
    if (known.contains(name)) continue;
    const auto shown = LOAM_TRY(run_collect(command({"apt-cache", "showpkg", name})));
    const auto provides = shown.standard_output.find("Reverse Provides:");
    std::set<std::string> providers;
    if (provides != std::string::npos)
      for (const std::string& line :
           split(std::string_view(shown.standard_output).substr(provides + 18), '\n'))
        if (!trim(line).empty()) providers.insert(line.substr(0, line.find(' ')));
    if (providers.empty()) {
      problems.push_back(missing_package_text(one, suite_, names));
    } else {
      problems.push_back(one + ": only a name that others provide; name one of: " +
                         join({providers.begin(), providers.end()}, ", "));
    }
  }
  if (problems.empty()) return {};
  return fail(ErrorCode::not_found, join(problems, "; "));
}

Result<std::vector<Deb>> Apt::plan(const std::vector<std::string>& wanted) {
  if (wanted.size() > kWantedMax)
    return fail(ErrorCode::too_large, "over " + std::to_string(kWantedMax) + " packages");
  for (const std::string& one : wanted) LOAM_CHECK(check_package_name(one));
  LOAM_CHECK(check_known(wanted));
  report(context_, {"apt: resolving", 0, 0, ""});
  std::vector<std::string> argv = {"apt-get", "-qq", "--print-uris", "install", kBaseSet};
  argv.insert(argv.end(), wanted.begin(), wanted.end());
  const auto output = LOAM_TRY(run_collect(command(std::move(argv))));
  if (!output.ok())
    return fail(
        ErrorCode::invalid,
        "these packages cannot be installed together: " +
            condensed(split(printable(output.standard_error + output.standard_output), '\n')));
  std::vector<Deb> debs;
  for (const std::string& line : split(output.standard_output, '\n'))
    if (line.starts_with('\'')) debs.push_back(LOAM_TRY(parse_uri_line(line)));
  if (debs.empty()) return fail(ErrorCode::corrupt, "apt-get named no package to install");
  if (debs.size() > kDebsMax)
    return fail(ErrorCode::too_large, "over " + std::to_string(kDebsMax) + " packages");
  std::sort(debs.begin(), debs.end(), [](const Deb& a, const Deb& b) { return a.name < b.name; });
  return debs;
}

Result<void> Apt::download(const std::vector<std::string>& wanted, const std::vector<Deb>& debs) {
  const std::string archives = folder_ + "/cache/archives/";
  std::uint64_t missing = 0;
  for (const Deb& deb : debs) {
    const bool had =
        context_.store->has_blob(deb.sha256) &&
        copy_file(context_.store->blob_path(deb.sha256), archives + deb.file(), 0644).has_value();
    missing += had ? 0 : 1;
  }
  if (missing == 0) return {};
  std::uint64_t begun = 0;
  const auto on_line = [&](std::string_view line) {
    const std::string package = fetched_package(line);
    if (!package.empty()) report(context_, {"apt: downloading", begun++, missing, package});
  };
  std::vector<std::string> argv = {"apt-get", "-q", "--download-only", "install", kBaseSet};
  argv.insert(argv.end(), wanted.begin(), wanted.end());
  const auto ended = LOAM_TRY(run_lines(context_, command(std::move(argv)), on_line));
  if (!ended.ok()) return fail(ErrorCode::unavailable, "download failed: " + condensed(ended.tail));
  for (const Deb& deb : debs) {
    if (context_.store->has_blob(deb.sha256)) continue;
    if (is_cancelled(context_)) return fail(ErrorCode::cancelled, "cancelled");
    const Fd file = LOAM_TRY(open_file(archives + deb.file(), O_RDONLY | O_NOFOLLOW));
    LOAM_TRY(context_.store->put_blob_from(file.get(), &deb.sha256));
  }
  return {};
}

Result<void> Apt::fetch(const Deb& deb) {
  report(context_, {"apt: downloading", 0, 0, deb.name});
  const auto ended = LOAM_TRY(run_lines(
      context_, command({"apt-get", "-q", "download", deb.name + "=" + deb.version}), nullptr));
  if (!ended.ok()) return fail(ErrorCode::not_found, condensed(ended.tail));
  const Fd file = LOAM_TRY(open_file(folder_ + "/" + deb.file(), O_RDONLY | O_NOFOLLOW));
  LOAM_TRY(context_.store->put_blob_from(file.get(), &deb.sha256));
  return {};
}

Result<void> Apt::download_file(const std::string& name, const std::string& path) {
  const std::string folder = folder_ + "/one-" + name;
  LOAM_CHECK(make_folders(folder, 0755));
  auto options = command({"apt-get", "-q", "download", name});
  options.directory = folder;
  const auto ended = LOAM_TRY(run_lines(context_, std::move(options), nullptr));
  const auto files = LOAM_TRY(list_folder(folder));
  if (!ended.ok() || files.size() != 1)
    return fail(ErrorCode::not_found, name + ": " + condensed(ended.tail));
  return copy_file(folder + "/" + files.front(), path, 0644);
}

}  // namespace loam::env
