// A lock section between JSON (as in loam.lock, foreign bytes) and the types that builds use.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "base/sha256.h"
#include "env/apt.h"
#include "env/wheels.h"

namespace loam::env {

struct Section {
  std::string base;  // "host" or "debian:SUITE"
  std::string platform;
  std::vector<std::string> apt;  // wanted
  std::vector<std::string> pip;
  std::vector<Deb> debs;
  WheelClosure closure;
  std::map<std::string, std::string> tools;
  std::optional<Digest> tree;

  std::string suite() const;  // "" for host
};

// Strict: every name, version and file is checked for what it may hold, for they become paths and
// arguments.
Result<Section> parse_section(const Json& document);
Json to_json(const Section& section);

// A member that is a digest.
Result<Digest> digest_at(const Json& document, std::string_view key);
// "bookworm" of "debian:bookworm"; "" for host; anything else: invalid.
Result<std::string> suite_of_base(const std::string& base);

}  // namespace loam::env
