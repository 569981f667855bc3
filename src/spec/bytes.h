// What is checked of the file's bytes before a YAML parser sees them.
#pragma once

#include <string_view>
#include <vector>

#include "spec/project.h"

namespace loam::spec {

// Size, UTF-8, control bytes. Not empty: the text must not be parsed.
std::vector<Problem> check_bytes(std::string_view text);

// The first tab in the white space that begins a line (or is all of it); column 0: none there.
// `line` is 1-based; lines past the end have none.
class Indentation {
 public:
  explicit Indentation(std::string_view text);
  int tab_column(int line) const;      // 1-based
  int content_column(int line) const;  // of the first character that is no blank; 0: a blank line

 private:
  struct Line {
    int tab_column = 0;
    int content_column = 0;
  };
  std::vector<Line> lines_;
};

}  // namespace loam::spec
