#include "base/glob.h"

#include <algorithm>

namespace loam {
namespace {

// A byte that begins no right UTF-8 sequence stands for itself, out of Unicode's range.
constexpr char32_t kStrayByte = 0x110000;

std::u32string characters(std::string_view text) {
  std::u32string result;
  result.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i]);
    const std::size_t size = first < 0x80    ? 1
                             : first >= 0xF0 ? 4
                             : first >= 0xE0 ? 3
                             : first >= 0xC0 ? 2
                                             : 0;
    bool whole = size > 0 && i + size <= text.size();
    char32_t value = size <= 1 ? first : first & (0xFFu >> (size + 1));
    for (std::size_t k = 1; whole && k < size; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      whole = (next & 0xC0u) == 0x80u;
      value = (value << 6) | (next & 0x3Fu);
    }
    result += whole ? value : kStrayByte + first;
    i += whole ? size : 1;
  }
  return result;
}

// POSIX's classes over ASCII, as git's wildmatch has them.
using Ranges = std::vector<std::pair<char32_t, char32_t>>;
bool add_named_class(std::u32string_view name, Ranges& ranges) {
  static const std::pair<std::u32string_view, Ranges> kClasses[] = {
      {U"alnum", {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}}},
      {U"alpha", {{'A', 'Z'}, {'a', 'z'}}},
      {U"blank", {{' ', ' '}, {'\t', '\t'}}},
      {U"cntrl", {{0, 31}, {127, 127}}},
      {U"digit", {{'0', '9'}}},
      {U"graph", {{33, 126}}},
      {U"lower", {{'a', 'z'}}},
      {U"print", {{32, 126}}},
      {U"punct", {{33, 47}, {58, 64}, {91, 96}, {123, 126}}},
      {U"space", {{9, 13}, {' ', ' '}}},
      {U"upper", {{'A', 'Z'}}},
      {U"xdigit", {{'0', '9'}, {'A', 'F'}, {'a', 'f'}}},
  };
  for (const auto& [known, members] : kClasses) {
    if (known != name) continue;
    ranges.insert(ranges.end(), members.begin(), members.end());
    return true;
  }
  return false;
}

}  // namespace

Glob::Glob(std::string_view pattern) {
  const auto wildcard = pattern.find_first_of("*?[\\");
  is_literal_ = wildcard == std::string_view::npos;
  if (is_literal_) literal_ = pattern;
  if (const auto slash = pattern.substr(0, wildcard).rfind('/'); slash != std::string_view::npos)
    folder_ = pattern.substr(0, slash);
  const std::u32string text = characters(pattern);
  for (std::size_t at = 0; at < text.size() && !never_;) {
    const char32_t c = text[at];
    const bool starts_component = at == 0 || text[at - 1] == '/';
    const auto rest = std::u32string_view(text).substr(at);
    if (starts_component && rest.starts_with(U"**/")) {
      tokens_.push_back({.kind = Kind::folders});
      at += 3;
    } else if (starts_component && rest == U"**") {
      tokens_.push_back({.kind = Kind::rest});
      at += 2;
    } else if (c == '*') {
      if (tokens_.empty() || tokens_.back().kind != Kind::star)
        tokens_.push_back({.kind = Kind::star});
      ++at;
    } else if (c == '?') {
      tokens_.push_back({.kind = Kind::any_character});
      ++at;
    } else if (c == '[') {
      never_ = !read_class(text, at);
    } else {
      if (c == '\\' && at + 1 < text.size()) ++at;
      tokens_.push_back({.kind = Kind::character, .character = text[at]});
      ++at;
    }
  }
}

// False where the class is not closed or names an unknown [:class:].
bool Glob::read_class(const std::u32string& pattern, std::size_t& at) {
  Token token{.kind = Kind::one_of};
  ++at;
  if (at < pattern.size() && (pattern[at] == '!' || pattern[at] == '^')) {
    token.negated = true;
    ++at;
  }
  for (bool first = true;; first = false) {
    if (at >= pattern.size()) return false;
    if (pattern[at] == ']' && !first) break;
    if (pattern.compare(at, 2, U"[:") == 0) {
      const auto end = pattern.find(U":]", at + 2);
      if (end == std::u32string::npos) return false;
      if (!add_named_class(std::u32string_view(pattern).substr(at + 2, end - at - 2), token.ranges))
        return false;
      at = end + 2;
      continue;
    }
    if (pattern[at] == '\\' && ++at >= pattern.size()) return false;
    const char32_t low = pattern[at++];
    char32_t high = low;
    if (at + 1 < pattern.size() && pattern[at] == '-' && pattern[at + 1] != ']') {
      ++at;
      if (pattern[at] == '\\' && ++at >= pattern.size()) return false;
      high = pattern[at++];
    }
    token.ranges.emplace_back(low, high);
  }
  ++at;
  tokens_.push_back(std::move(token));
  return true;
}

bool Glob::takes(const Token& token, char32_t c) {
  if (token.kind == Kind::character) return c == token.character;
  if (c == '/') return false;
  if (token.kind != Kind::one_of) return true;
  const bool inside = std::any_of(token.ranges.begin(), token.ranges.end(), [c](const auto& range) {
    return range.first <= c && c <= range.second;
  });
  return inside != token.negated;
}

// State i: the tokens before i have matched. What may match nothing leads on at once.
void Glob::add_state(std::vector<char>& states, std::size_t state) const {
  while (states[state] == 0) {
    states[state] = 1;
    if (state == tokens_.size()) return;
    const Kind kind = tokens_[state].kind;
    if (kind != Kind::star && kind != Kind::folders && kind != Kind::rest) return;
    ++state;
  }
}

// All states at once, a character at a time: no backtracking, whatever the pattern. A `folders`
// state leads on where it is entered (no folder) and after each '/'; the mark 2 says "inside a
// folder's name".
bool Glob::matches(std::string_view path) const {
  if (never_) return false;
  if (is_literal_) return path == literal_;
  std::vector<char> states(tokens_.size() + 1, 0);
  std::vector<char> next(states.size(), 0);
  add_state(states, 0);
  for (const char32_t c : characters(path)) {
    std::fill(next.begin(), next.end(), 0);
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      if (states[i] == 0) continue;
      const Token& token = tokens_[i];
      if (token.kind == Kind::folders) {
        if (c == '/') add_state(next, i + 1);
        if (next[i] == 0) next[i] = 2;
      } else if (token.kind == Kind::rest) {
        next[i] = 1;
        add_state(next, i + 1);
      } else if (takes(token, c)) {
        add_state(next, token.kind == Kind::star ? i : i + 1);
      }
    }
    states.swap(next);
  }
  return states[tokens_.size()] != 0;
}

}  // namespace loam
