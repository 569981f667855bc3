// Which Debian mirrors this machine uses, from its own apt configuration, turned to another suite.
// Formats: sources.list(5), both one-line and deb822. Pure: text in, text out.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace loam::env {

inline constexpr std::size_t kSourcesMax = 200;

enum class SuiteKind { release, updates, security };

// One `deb` entry with one suite.
struct AptSource {
  std::vector<std::string> uris;
  std::string suite;
  std::vector<std::string> components;
  std::vector<std::pair<std::string, std::string>> options;  // deb822 names: Signed-By, Trusted, …
};

std::vector<AptSource> parse_one_line_sources(std::string_view text);
std::vector<AptSource> parse_deb822_sources(std::string_view text);
// Every source of a machine: sources.list, sources.list.d/*.list and *.sources below `etc_apt`.
// Unreadable files are passed over, as apt does.
std::vector<AptSource> read_sources(const std::string& etc_apt);

const std::vector<std::string>& known_suites();

// The machine's Debian archives, turned to `suite`: a deb822 text for a sources.list.d of one's
// own. unavailable: none of the sources is a Debian archive.
Result<std::string> sources_for(const std::vector<AptSource>& sources, const std::string& suite);

}  // namespace loam::env
