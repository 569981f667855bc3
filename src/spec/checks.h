// Names and paths: what may stand in them, so that every later part can put them in file names,
// URLs, argv and log lines without thinking.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "spec/reader.h"

namespace loam::spec {

inline constexpr std::size_t kNameBytesMax = 63;
inline constexpr std::size_t kPathBytesMax = 1024;
// The kernel's limit of one argument or NAME=VALUE, with its end (execve(2), MAX_ARG_STRLEN).
inline constexpr std::size_t kArgumentBytesMax = 128 * 1024 - 1;

// "" or what is wrong: letters, digits, '-', '_' and '.', at most 63, a letter or digit first, at
// least one that is no digit (runs are numbers), not "req-..." (requests).
std::string name_problem(std::string_view name);
std::optional<std::string> read_name(const Value& value, std::string_view expected);
// For a map whose keys are names. False where it noted a problem.
bool check_name(const NamedValue& member);

// A path below the project, without "./" and doubled '/'. Notes paths that lead out of it, $VAR and
// ~.
std::optional<std::string> read_project_path(const Value& value, std::string_view expected);
// The same for a glob; an unclosed '[' is a problem.
std::optional<std::string> read_project_pattern(const Value& value, std::string_view expected);
bool closes_brackets(std::string_view pattern);
// From '/', without "." and "..".
std::optional<std::string> read_absolute_path(const Value& value, std::string_view expected);

// [A-Za-z_][A-Za-z0-9_]*
bool is_identifier(std::string_view text);
// "" or what is wrong with the name of an environment variable that the file sets.
std::string variable_problem(std::string_view name);

}  // namespace loam::spec
