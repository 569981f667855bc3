// Which names a Python file has at its top level, as far as that can be seen without running it:
// enough to tell a misspelt handler from one that is there.
//
// Source: docs.python.org, "Lexical analysis" and "Naming and binding". Where it can't follow the
// text it says so and nothing is refused; the worker, which imports the file, has the last word.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace loam::spec {

struct PythonNames {
  std::vector<std::string> defined;  // def, class and NAME = …, in the file's order
  std::set<std::string> mentioned;   // whatever else may be bound: imports, loops, targets
  bool may_have_more = false;        // import *, exec, globals(), or text that was not understood

  bool may_have(const std::string& name) const;
};

PythonNames python_names(std::string_view text);

}  // namespace loam::spec
