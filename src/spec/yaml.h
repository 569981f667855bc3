// Text → Node tree, by yaml-cpp's events; the only place that knows the library.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "spec/node.h"

namespace loam::spec {

// All scalars and keys together, after aliases are followed: an alias of a long text costs its
// length.
inline constexpr std::size_t kTextBytesMax = 4 * kFileBytesMax;

struct Document {
  std::optional<Node> root;       // none where the text cannot be read as one document
  std::vector<Problem> problems;  // may be there beside a root: a duplicate key, a tag
};

Document read_yaml(std::string_view text);

}  // namespace loam::spec
