// argv → a verb and its arguments. The one place that knows CLI11.
#pragma once

#include <string>
#include <vector>

#include "cli/verb.h"

namespace loam::cli {

struct Parsed {
  const Verb* verb = nullptr;  // null: `status` and `text` are the answer
  Arguments arguments;
  int status = 0;
  std::string text;  // help (status 0), or what is wrong (status 2)
};

// `arguments`: without the program's name.
Parsed parse_arguments(const std::vector<Verb>& verbs, const std::vector<std::string>& arguments);

// "loam store gc" → its verb and full name; null where there is none.
struct Found {
  const Verb* verb = nullptr;
  std::string name;  // "store gc"
};
Found find_verb(const std::vector<Verb>& verbs, const std::vector<std::string>& path);

std::string overview(const std::vector<Verb>& verbs);
std::string help_of(const Verb& verb, const std::string& full_name);

// The key of "-f,--file": "file".
std::string key_of(const Option& option);

}  // namespace loam::cli
