#include "env/apt_sources.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "base/files.h"
#include "base/text.h"

namespace loam::env {
namespace {

constexpr std::size_t kSourcesBytesMax = 1u << 20;
constexpr const char* kDebianKeys = "/usr/share/keyrings/debian-archive-keyring.gpg";

std::vector<std::string> words(std::string_view text) {
  std::istringstream stream{std::string(text)};
  std::vector<std::string> list;
  for (std::string word; stream >> word;) list.push_back(word);
  return list;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// The options that say whether and how a mirror is trusted. Arch and language are this machine's,
// not the environment's.
std::string option_name(const std::string& name) {
  static const std::map<std::string, std::string> kKept = {
      {"signed-by", "Signed-By"},
      {"trusted", "Trusted"},
      {"check-valid-until", "Check-Valid-Until"},
      {"allow-insecure", "Allow-Insecure"},
      {"allow-weak", "Allow-Weak"},
      {"snapshot", "Snapshot"}};
  const auto found = kKept.find(lower(name));
  return found == kKept.end() ? "" : found->second;
}

struct SuiteOf {
  std::string suite;
  SuiteKind kind = SuiteKind::release;
};

// "bookworm-security" → bookworm, security. Nothing for backports and what is no suite of Debian.
std::optional<SuiteOf> suite_of(const std::string& text) {
  SuiteOf result{text, SuiteKind::release};
  const auto cut = [&](std::string_view tail, SuiteKind kind) {
    if (!text.ends_with(tail)) return;
    result = {text.substr(0, text.size() - tail.size()), kind};
  };
  cut("-updates", SuiteKind::updates);
  cut("-security", SuiteKind::security);
  cut("/updates", SuiteKind::security);
  const auto& known = known_suites();
  if (std::find(known.begin(), known.end(), result.suite) == known.end()) return std::nullopt;
  return result;
}

std::string option(const AptSource& source, std::string_view name) {
  for (const auto& [key, value] : source.options)
    if (key == name) return value;
  return "";
}

bool signed_by_debian(const AptSource& source) {
  const std::string keys = option(source, "Signed-By");
  return keys.empty() || keys.find("debian-archive") != std::string::npos;
}

// Other vendors name their suites after Debian's too; "main" and Debian's keys tell most of them
// apart.
bool may_be_debian(const AptSource& source) {
  const bool has_main = std::find(source.components.begin(), source.components.end(), "main") !=
                        source.components.end();
  const bool cdrom = !source.uris.empty() && source.uris.front().starts_with("cdrom:");
  return has_main && !cdrom && suite_of(source.suite).has_value();
}

bool is_rolling(const std::string& suite) {
  return suite == "sid" || suite == "unstable" || suite == "experimental";
}

std::string turned(const std::string& suite, SuiteKind kind) {
  switch (kind) {
    case SuiteKind::release:
      return suite;
    case SuiteKind::updates:
      return suite + "-updates";
    case SuiteKind::security:
      return suite == "buster" ? suite + "/updates" : suite + "-security";
  }
  return suite;
}

std::string stanza(const AptSource& source, const std::string& suite) {
  std::string text = "Types: deb\nURIs: " + join(source.uris, " ") + "\nSuites: " + suite +
                     "\nComponents: " + join(source.components, " ") + "\n";
  for (const auto& [name, value] : source.options) {
    // A release's own key file does not hold another release's key; the common one does.
    const bool own_keys = name == "Signed-By" && value.find("debian-archive-") != std::string::npos;
    text += name + ": " + (own_keys && path_exists(kDebianKeys) ? kDebianKeys : value) + "\n";
  }
  return text + "\n";
}

// "[signed-by=/a,/b arch=amd64]" at the front of `rest`, taken off it.
std::vector<std::pair<std::string, std::string>> take_options(std::string_view& rest) {
  std::vector<std::pair<std::string, std::string>> options;
  if (!rest.starts_with('[')) return options;
  const auto end = rest.find(']');
  if (end == std::string_view::npos) return options;
  for (const std::string& word : words(rest.substr(1, end - 1))) {
    const auto equals = word.find('=');
    if (equals == std::string::npos) continue;
    const std::string name = option_name(word.substr(0, equals));
    std::string value = word.substr(equals + 1);
    std::replace(value.begin(), value.end(), ',', ' ');
    if (!name.empty()) options.emplace_back(name, value);
  }
  rest = trim(rest.substr(end + 1));
  return options;
}

using Fields = std::map<std::string, std::string>;

void add_stanza(const Fields& fields, std::vector<AptSource>& sources) {
  const auto field = [&](const char* name) {
    const auto found = fields.find(name);
    return found == fields.end() ? std::string() : found->second;
  };
  const auto types = words(field("types"));
  if (lower(field("enabled")) == "no" ||
      std::find(types.begin(), types.end(), "deb") == types.end())
    return;
  AptSource source{words(field("uris")), "", words(field("components")), {}};
  for (const auto& [name, value] : fields)
    if (const std::string known = option_name(name); !known.empty())
      source.options.emplace_back(known, value);
  if (source.uris.empty()) return;
  for (const std::string& suite : words(field("suites"))) {
    if (sources.size() >= kSourcesMax) return;
    source.suite = suite;
    sources.push_back(source);
  }
}

}  // namespace

const std::vector<std::string>& known_suites() {
  static const std::vector<std::string> kSuites = {
      "buster", "bullseye",  "bookworm",     "trixie", "forky",   "duke",
      "sid",    "oldstable", "oldoldstable", "stable", "testing", "unstable"};
  return kSuites;
}

std::vector<AptSource> parse_one_line_sources(std::string_view text) {
  std::vector<AptSource> sources;
  for (const std::string& raw : split(text, '\n')) {
    std::string_view line = trim(std::string_view(raw).substr(0, raw.find('#')));
    if (!line.starts_with("deb ") && !line.starts_with("deb\t")) continue;
    line = trim(line.substr(4));
    auto options = take_options(line);
    auto parts = words(line);
    if (parts.size() < 3 || sources.size() >= kSourcesMax) continue;
    sources.push_back({{parts[0]}, parts[1], {parts.begin() + 2, parts.end()}, std::move(options)});
  }
  return sources;
}

std::vector<AptSource> parse_deb822_sources(std::string_view text) {
  std::vector<AptSource> sources;
  Fields fields;
  std::string* last = nullptr;
  for (const std::string& line : split(text, '\n')) {
    if (line.starts_with('#')) continue;
    if (trim(line).empty()) {
      add_stanza(fields, sources);
      fields.clear();
      last = nullptr;
    } else if (line.front() == ' ' || line.front() == '\t') {
      // A key written into the file: kept as it stands.
      if (last != nullptr) *last += "\n" + line;
    } else if (const auto colon = line.find(':'); colon != std::string::npos) {
      last = &fields[lower(line.substr(0, colon))];
      *last = trim(std::string_view(line).substr(colon + 1));
    }
  }
  add_stanza(fields, sources);
  return sources;
}

std::vector<AptSource> read_sources(const std::string& etc_apt) {
  std::vector<AptSource> all;
  const auto add = [&](const std::string& path, auto parse) {
    const auto text = read_file(path, kSourcesBytesMax);
    if (!text) return;
    const auto parsed = parse(*text);
    all.insert(all.end(), parsed.begin(), parsed.end());
  };
  add(etc_apt + "/sources.list", parse_one_line_sources);
  const auto names = list_folder(etc_apt + "/sources.list.d");
  if (!names) return all;
  for (const std::string& name : *names) {
    if (name.ends_with(".list")) add(etc_apt + "/sources.list.d/" + name, parse_one_line_sources);
    if (name.ends_with(".sources")) add(etc_apt + "/sources.list.d/" + name, parse_deb822_sources);
  }
  return all;
}

Result<std::string> sources_for(const std::vector<AptSource>& sources, const std::string& suite) {
  std::vector<AptSource> found;
  std::copy_if(sources.begin(), sources.end(), std::back_inserter(found), may_be_debian);
  if (std::any_of(found.begin(), found.end(), signed_by_debian))
    std::erase_if(found, [](const AptSource& source) { return !signed_by_debian(source); });
  std::set<std::string> stanzas;
  bool has_release = false;
  for (const AptSource& source : found) {
    const SuiteKind kind = suite_of(source.suite)->kind;
    if (kind != SuiteKind::release && is_rolling(suite)) continue;
    has_release |= kind == SuiteKind::release;
    stanzas.insert(stanza(source, turned(suite, kind)));
  }
  if (!has_release)
    return fail(
        ErrorCode::unavailable,
        "this machine has no Debian mirror configured; add one to /etc/apt/sources.list.d, such as "
        "\"deb "
        "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian " +
            suite + " main\", or use base: host");
  std::string text;
  for (const std::string& one : stanzas) text += one;
  return text;
}

}  // namespace loam::env
