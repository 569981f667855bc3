// gitignore(5), "PATTERN FORMAT".
#include "store/snapshot.h"

namespace loam::store {
namespace {

// Trailing spaces do not count unless a backslash quotes them.
std::string_view without_trailing_spaces(std::string_view line) {
  std::size_t end = 0;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\\' && i + 1 < line.size())
      ++i;
    else if (line[i] == ' ')
      continue;
    end = i + 1;
  }
  return line.substr(0, end);
}

std::string_view name_of(std::string_view path) {
  const auto slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

}  // namespace

void IgnoreRules::add(std::string_view text, const std::string& base) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);  // a byte order mark
  while (!text.empty()) {
    const auto end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    add_line(line, base);
  }
}

void IgnoreRules::add_line(std::string_view line, const std::string& base) {
  if (line.starts_with('#')) return;
  line = without_trailing_spaces(line);
  const bool negated = line.starts_with('!');
  if (negated) line.remove_prefix(1);
  const bool folder_only = line.ends_with('/');
  if (folder_only) line.remove_suffix(1);
  const bool anchored = line.find('/') != std::string_view::npos;
  if (line.starts_with('/')) line.remove_prefix(1);
  if (line.empty()) return;
  rules_.push_back({Glob(line), base, negated, folder_only, anchored});
}

bool IgnoreRules::ignores_entry(const std::string& path, bool is_folder) const {
  for (auto rule = rules_.rbegin(); rule != rules_.rend(); ++rule) {
    if (rule->folder_only && !is_folder) continue;
    std::string_view below = path;
    if (!rule->base.empty()) {
      if (!below.starts_with(rule->base) || below.size() <= rule->base.size() ||
          below[rule->base.size()] != '/')
        continue;
      below.remove_prefix(rule->base.size() + 1);
    }
    if (rule->pattern.matches(rule->anchored ? below : name_of(below))) return !rule->negated;
  }
  return false;
}

bool IgnoreRules::ignores(const std::string& path, bool is_folder) const {
  for (auto slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1))
    if (ignores_entry(path.substr(0, slash), true)) return true;
  return ignores_entry(path, is_folder);
}

}  // namespace loam::store
