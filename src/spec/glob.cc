// Patterns over relative paths. '*' and '?' stay within a component and match a leading dot too;
// '**' as a whole component matches any number of them, none included; [a-z], [!a-z]. Cost: pattern
// × path, never more, whatever a file's author writes.
#include <string>
#include <vector>

#include "base/text.h"
#include "spec/project.h"

namespace loam::spec {
namespace {

// The bytes of the UTF-8 character at the front.
std::size_t character_length(std::string_view text) {
  std::size_t length = 1;
  while (length < text.size() && (static_cast<unsigned char>(text[length]) & 0xC0u) == 0x80u)
    ++length;
  return length;
}

struct ClassMatch {
  std::size_t length = 0;  // of the class in the pattern; 0: no class, the '[' means itself
  bool matches = false;
};

ClassMatch match_class(std::string_view pattern, std::string_view character) {
  std::size_t at = 1;
  const bool negated = at < pattern.size() && (pattern[at] == '!' || pattern[at] == '^');
  if (negated) ++at;
  bool inside = false;
  for (bool first = true; at < pattern.size() && (first || pattern[at] != ']'); first = false) {
    const std::string_view low = pattern.substr(at, character_length(pattern.substr(at)));
    at += low.size();
    std::string_view high = low;
    if (at + 1 < pattern.size() && pattern[at] == '-' && pattern[at + 1] != ']') {
      high = pattern.substr(at + 1, character_length(pattern.substr(at + 1)));
      at += 1 + high.size();
    }
    // UTF-8 sorts as its code points do, as long as bytes compare unsigned, which string_view does.
    inside = inside || (low <= character && character <= high);
  }
  if (at >= pattern.size()) return {};
  return {at + 1, inside != negated};
}

// One component against one component: the last '*' takes more where the rest does not match.
bool matches_component(std::string_view pattern, std::string_view name) {
  std::size_t p = 0;
  std::size_t n = 0;
  std::size_t star = std::string_view::npos;
  std::size_t star_name = 0;
  while (n < name.size()) {
    const std::string_view character = name.substr(n, character_length(name.substr(n)));
    std::size_t step = 0;
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_name = n;
      continue;
    }
    if (p < pattern.size() && pattern[p] == '?') {
      step = 1;
    } else if (p < pattern.size() && pattern[p] == '[') {
      const ClassMatch found = match_class(pattern.substr(p), character);
      step = found.length > 0 ? (found.matches ? found.length : 0) : (character == "[" ? 1 : 0);
    } else if (pattern.substr(p).starts_with(character)) {
      step = character.size();
    }
    if (step > 0) {
      p += step;
      n += character.size();
    } else if (star != std::string_view::npos) {
      p = star + 1;
      star_name += character_length(name.substr(star_name));
      n = star_name;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace

bool matches_pattern(std::string_view pattern, std::string_view path) {
  const std::vector<std::string> patterns = split(pattern, '/');
  const std::vector<std::string> names = split(path, '/');
  // reached[j]: the patterns so far match the first j names.
  std::vector<bool> reached(names.size() + 1, false);
  reached[0] = true;
  for (const std::string& part : patterns) {
    std::vector<bool> next(names.size() + 1, false);
    if (part == "**") {
      bool any = false;
      for (std::size_t j = 0; j <= names.size(); ++j) next[j] = any = any || reached[j];
    } else {
      for (std::size_t j = 0; j < names.size(); ++j)
        next[j + 1] = reached[j] && matches_component(part, names[j]);
    }
    reached = std::move(next);
  }
  return reached[names.size()];
}

std::string pattern_folder(std::string_view pattern) {
  const auto wildcard = pattern.find_first_of("*?[");
  const auto slash = pattern.substr(0, wildcard).rfind('/');
  return slash == std::string_view::npos ? "" : std::string(pattern.substr(0, slash));
}

}  // namespace loam::spec
