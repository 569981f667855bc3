#include "spec/checks.h"

#include <algorithm>

#include "base/text.h"

namespace loam::spec {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_character(char c) {
  return is_letter(c) || is_digit(c) || c == '-' || c == '_' || c == '.';
}

// "$NAME" or "${NAME}" in the text, "" where there is none.
std::string variable_in(std::string_view text) {
  for (std::size_t i = 0; i + 1 < text.size(); ++i) {
    if (text[i] != '$' || (!is_letter(text[i + 1]) && text[i + 1] != '_' && text[i + 1] != '{'))
      continue;
    std::size_t end = i + 2;
    while (end < text.size() && (is_letter(text[end]) || is_digit(text[end]) || text[end] == '_'))
      ++end;
    if (end < text.size() && text[end] == '}') ++end;
    return std::string(text.substr(i, end - i));
  }
  return "";
}

// What no path of any kind may have.
std::string path_problem(std::string_view path) {
  if (path.size() > kPathBytesMax)
    return "a path of more than " + std::to_string(kPathBytesMax) + " bytes";
  for (const char c : path)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) return "a control byte in a path";
  if (const std::string variable = variable_in(path); !variable.empty())
    return quoted(variable) + " is never expanded here; write the path itself";
  if (path.starts_with('~')) return "'~' is never expanded here; write the path itself";
  return "";
}

bool has_component(std::string_view path, std::string_view component) {
  const auto parts = split(path, '/');
  return std::find(parts.begin(), parts.end(), component) != parts.end();
}

// "./a//b/" → "a/b"; "/a/./b" → "/a/b".
std::string normal_path(std::string_view path) {
  std::string out;
  for (const std::string& part : split(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (!out.empty() || path.starts_with('/')) out += '/';
    out += part;
  }
  return out;
}

}  // namespace

std::string name_problem(std::string_view name) {
  if (name.empty()) return "an empty name";
  if (name.size() > kNameBytesMax)
    return quoted(name) + " is longer than " + std::to_string(kNameBytesMax) + " characters";
  const bool clean = std::all_of(name.begin(), name.end(), is_name_character);
  if (!clean || !(is_letter(name[0]) || is_digit(name[0])))
    return quoted(name) +
           " is no name; expected letters, digits, '-', '_' and '.', a letter or digit first";
  if (std::all_of(name.begin(), name.end(), is_digit))
    return quoted(name) + " has digits only, as the numbers of runs; add a letter";
  if (name.starts_with("req-")) return quoted(name) + " begins as request ids do; drop 'req-'";
  return "";
}

std::optional<std::string> read_name(const Value& value, std::string_view expected) {
  auto name = value.text(expected);
  if (!name) return {};
  if (std::string wrong = name_problem(*name); !wrong.empty()) {
    value.problem(std::move(wrong));
    return {};
  }
  return name;
}

bool check_name(const NamedValue& member) {
  std::string wrong = name_problem(member.name);
  if (wrong.empty()) return true;
  member.value.reader().problem(member.value.key_place(), member.value.key(), std::move(wrong));
  return false;
}

std::optional<std::string> read_project_path(const Value& value, std::string_view expected) {
  const auto path = value.text(expected);
  if (!path) return {};
  if (std::string wrong = path_problem(*path); !wrong.empty()) {
    value.problem(std::move(wrong));
    return {};
  }
  if (path->starts_with('/') || has_component(*path, "..")) {
    value.problem(quoted(*path) +
                  " leads out of the project; expected a path relative to the folder of the file "
                  "(other places are reached by mounts:)");
    return {};
  }
  std::string normal = normal_path(*path);
  if (normal.empty()) {
    value.problem(quoted(*path) + " is the project itself; expected " + std::string(expected));
    return {};
  }
  return normal;
}

std::optional<std::string> read_project_pattern(const Value& value, std::string_view expected) {
  auto pattern = read_project_path(value, expected);
  if (!pattern) return {};
  if (!closes_brackets(*pattern)) {
    value.problem(quoted(*pattern) + " has a '[' without its ']'");
    return {};
  }
  if (value.node().text.ends_with('/')) {
    value.problem(quoted(value.node().text) + " is a folder; write '" + *pattern +
                  "/**' for all files in it");
    return {};
  }
  return pattern;
}

bool closes_brackets(std::string_view pattern) {
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '\\') {  // the next character is itself
      ++i;
      continue;
    }
    if (pattern[i] != '[') continue;
    std::size_t end = i + 1;
    if (end < pattern.size() && (pattern[end] == '!' || pattern[end] == '^')) ++end;
    if (end < pattern.size() && pattern[end] == ']') ++end;
    while (end < pattern.size() && pattern[end] != ']' && pattern[end] != '/') ++end;
    if (end >= pattern.size() || pattern[end] == '/') return false;
    i = end;
  }
  return true;
}

std::optional<std::string> read_absolute_path(const Value& value, std::string_view expected) {
  const auto path = value.text(expected);
  if (!path) return {};
  if (std::string wrong = path_problem(*path); !wrong.empty()) {
    value.problem(std::move(wrong));
    return {};
  }
  if (!path->starts_with('/') || has_component(*path, "..")) {
    value.problem(quoted(*path) +
                  (path->starts_with('/') ? " has '..' in it" : " is not absolute") +
                  "; expected " + std::string(expected) + ", from '/' on and without '..'");
    return {};
  }
  std::string normal = normal_path(*path);
  return normal.empty() ? "/" : normal;
}

bool is_identifier(std::string_view text) {
  if (text.empty() || is_digit(text[0])) return false;
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return is_letter(c) || is_digit(c) || c == '_'; });
}

std::string variable_problem(std::string_view name) {
  if (!is_identifier(name))
    return quoted(name) +
           " is no variable's name; expected letters, digits and '_', no digit first";
  if (name.size() > 255) return "a variable's name of more than 255 characters";
  if (name.starts_with("LOAM_"))
    return quoted(name) + " is Loam's own; names that begin with LOAM_ are kept for it";
  return "";
}

}  // namespace loam::spec
