#include "spec/node.h"

#include "base/text.h"

namespace loam::spec {
namespace {

constexpr std::size_t kShownBytesMax = 60;

std::string shown(std::string_view text) {
  std::string_view part = text.substr(0, kShownBytesMax);
  // Never cut within a character: a continuation byte after the cut belongs to the one before.
  while (part.size() < text.size() && !part.empty() &&
         (static_cast<unsigned char>(text[part.size()]) & 0xC0u) == 0x80u)
    part.remove_suffix(1);
  std::string out;
  for (const char c : printable(part)) {
    if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else
      out += c;
  }
  if (part.size() < text.size()) out += "…";
  return out;
}

}  // namespace

std::string join_key(std::string_view path, std::string_view key) {
  if (path.empty()) return shown(key);
  return std::string(path) + "." + shown(key);
}

std::string join_index(std::string_view path, std::size_t index) {
  return std::string(path) + "[" + std::to_string(index) + "]";
}

std::string quoted(std::string_view text) { return "'" + shown(text) + "'"; }

}  // namespace loam::spec
