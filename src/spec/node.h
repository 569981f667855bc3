// A YAML document as a tree that remembers where each value stands and how it was written.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "spec/project.h"

namespace loam::spec {

struct Member;

struct Node {
  enum class Kind { null, scalar, list, map };

  Kind kind = Kind::null;
  Place place;
  std::string text;     // of a scalar, as it reads after quotes and escapes
  bool quoted = false;  // a scalar in quotes or as a block: always text, never a number
  std::vector<Node> items;
  std::vector<Member> members;  // in file order, each key once
};

struct Member {
  std::string key;
  Place place;  // of the key
  Node value;
};

// "resources" + "memory" = "resources.memory"; at the top just the key. Long keys are cut and
// control bytes escaped, because the path is printed.
std::string join_key(std::string_view path, std::string_view key);
std::string join_index(std::string_view path, std::size_t index);

// 'TEXT' for a message: escaped, and cut where it is long.
std::string quoted(std::string_view text);

}  // namespace loam::spec
