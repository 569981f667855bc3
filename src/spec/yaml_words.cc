#include "spec/yaml_words.h"

#include <array>

#include "base/text.h"

namespace loam::spec {
namespace {

// yaml-cpp's words for what it does not expect, and what they mean to a person.
struct Wording {
  std::string_view theirs;
  std::string_view ours;
};
constexpr std::array kWordings{
    Wording{"illegal map value",
            "a ':' that no key can have here; check the indentation, and quote text that has ': ' "
            "in it"},
    Wording{"illegal block entry", "a '-' that no list can have here; check the indentation"},
    Wording{"illegal map key", "a '?' that no map can have here"},
    Wording{"end of map flow not found", "expected ',' or '}' before this"},
    Wording{"end of sequence flow not found", "expected ',' or ']' before this"},
    Wording{"end of map not found",
            "this does not fit the keys around it; check the indentation, that each key "
            "ends in ':' and that quotes before it are closed"},
    Wording{"end of sequence not found",
            "this does not fit the list around it; check the indentation"},
    Wording{"illegal EOF in scalar", "a quote that is never closed"},
    Wording{"illegal document indicator in scalar", "a quote that is never closed"},
    Wording{"illegal flow end", "a closing bracket that nothing opened"},
    Wording{"unknown token", "a character that cannot begin a value; put the value in quotes"},
    Wording{"unknown escape character",
            "an unknown escape in double quotes; use single quotes, or \\\\ for a backslash"},
    Wording{"illegal tab when looking for indentation", "a tab indents text; indent with spaces"},
    Wording{"the referenced anchor is not defined",
            "an alias of an anchor that does not exist; put text that begins with '*' in quotes"},
    Wording{"invalid unicode", "an escape in double quotes that is no character"},
};

std::string explain(const std::string& message) {
  for (const Wording& wording : kWordings)
    if (message.find(wording.theirs) != std::string::npos)
      return "not valid YAML: " + std::string(wording.ours);
  return "not valid YAML: " + printable(message);
}

}  // namespace

Problem syntax_problem(Place place, const std::string& message, const Indentation& indentation) {
  static constexpr int kLinesBack = 3;
  int seen = 0;
  for (int line = place.line; line > 0 && seen < kLinesBack; --line) {
    const int column = indentation.tab_column(line);
    const bool blank = indentation.content_column(line) == 0;
    if (blank && line == place.line && column > 0)
      return {{line, column}, "", "a tab in a line that looks empty; remove it"};
    if (blank) continue;
    if (column > 0) return {{line, column}, "", "a tab indents this line; indent with spaces"};
    ++seen;
  }
  return {place, "", explain(message)};
}

Problem second_document_problem(Place place, std::string_view text) {
  int line = 1;
  for (const std::string& content : split(text, '\n')) {
    if (line > 1 && line <= place.line &&
        (content.starts_with("---") || content.starts_with("...")))
      return {place, "", "a second document begins here; loam.yaml is one document"};
    ++line;
  }
  return {place, "", "not valid YAML: this belongs to nothing before it; check the indentation"};
}

}  // namespace loam::spec
