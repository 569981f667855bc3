#include "spec/python_names.h"

#include <algorithm>
#include <array>
#include <optional>

#include "base/text.h"

namespace loam::spec {
namespace {

constexpr std::size_t kTabColumns = 8;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

struct Line {
  std::size_t indent = 0;
  std::string code;  // without comments and what strings hold
};

// After the string's closing quotes; none where it does not end.
std::optional<std::size_t> end_of_string(std::string_view text, std::size_t start) {
  const char quote = text[start];
  const std::string triple(3, quote);
  const bool is_long = text.substr(start).starts_with(triple);
  const std::string_view closing = is_long ? std::string_view(triple) : text.substr(start, 1);
  for (std::size_t i = start + closing.size(); i < text.size(); ++i) {
    if (text[i] == '\\')
      ++i;
    else if (text.substr(i).starts_with(closing))
      return i + closing.size();
    else if (text[i] == '\n' && !is_long)
      return {};
  }
  return {};
}

// Logical lines: within brackets, and after a backslash, a line goes on. None where that does not
// work out.
class LineReader {
 public:
  explicit LineReader(std::string_view text) : text_(text) {
    if (text_.starts_with(kByteOrderMark)) text_.remove_prefix(kByteOrderMark.size());
  }

  std::optional<std::vector<Line>> read() {
    read_indent();
    while (at_ < text_.size() && depth_ >= 0 && !lost_) step();
    end_line();
    if (depth_ != 0 || lost_) return {};
    return std::move(lines_);
  }

 private:
  void step() {
    const char c = text_[at_];
    if (c == '#') {
      at_ = std::min(text_.find('\n', at_), text_.size());
    } else if (c == '"' || c == '\'') {
      const auto end = end_of_string(text_, at_);
      lost_ = !end;
      at_ = end.value_or(text_.size());
      line_.code += "''";
    } else if (c == '\\') {
      const bool carriage_return = text_.substr(at_ + 1).starts_with("\r\n");
      at_ += carriage_return ? 3 : 2;
      line_.code += ' ';
    } else if (c == '\n') {
      ++at_;
      if (depth_ > 0) {
        line_.code += ' ';
      } else {
        end_line();
        read_indent();
      }
    } else {
      if (c == '(' || c == '[' || c == '{') ++depth_;
      if (c == ')' || c == ']' || c == '}') --depth_;
      line_.code += c;
      ++at_;
    }
  }

  void read_indent() {
    for (; at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t'); ++at_)
      line_.indent = text_[at_] == ' ' ? line_.indent + 1
                                       : (line_.indent / kTabColumns + 1) * kTabColumns;
  }

  void end_line() {
    if (!trim(line_.code).empty()) lines_.push_back(std::move(line_));
    line_ = {};
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int depth_ = 0;
  bool lost_ = false;
  Line line_;
  std::vector<Line> lines_;
};

bool in_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         (static_cast<unsigned char>(c) & 0x80) != 0;
}

// The names in a line, without attributes (what follows a dot).
std::vector<std::string> names_in(std::string_view code) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < code.size();) {
    std::size_t end = i;
    while (end < code.size() && in_name(code[end])) ++end;
    if (end > i && (i == 0 || code[i - 1] != '.')) names.emplace_back(code.substr(i, end - i));
    i = std::max(end, i + 1);
  }
  return names;
}

// Ways to bind names that can't be read off the text.
bool binds_unseen(const Line& line, const std::vector<std::string>& names) {
  static constexpr std::array<std::string_view, 6> kWays{"exec",    "globals", "locals",
                                                         "setattr", "vars",    "__getattr__"};
  if (line.code.find("sys.modules") != std::string::npos) return true;
  if (names[0] == "from" && line.code.find('*') != std::string::npos) return true;
  return std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return std::find(kWays.begin(), kWays.end(), name) != kWays.end();
  });
}

bool is_assignment(std::string_view code, const std::string& name) {
  const std::string_view rest = trim(trim(code).substr(name.size()));
  return rest.starts_with('=') && !rest.starts_with("==");
}

}  // namespace

bool PythonNames::may_have(const std::string& name) const {
  return may_have_more || mentioned.contains(name) ||
         std::find(defined.begin(), defined.end(), name) != defined.end();
}

PythonNames python_names(std::string_view text) {
  PythonNames found;
  const auto lines = LineReader(text).read();
  if (!lines) {
    found.may_have_more = true;
    return found;
  }
  std::optional<std::size_t> body;  // the indent of the def or class whose body we pass over
  for (const Line& line : *lines) {
    const std::vector<std::string> names = names_in(line.code);
    if (names.empty()) continue;
    found.may_have_more = found.may_have_more || binds_unseen(line, names);
    const bool passed_over = body && line.indent > *body;
    if (!passed_over) body.reset();
    if (passed_over && names[0] != "global") continue;
    const std::size_t word = names[0] == "async" && names.size() > 1 ? 1 : 0;
    if ((names[word] == "def" || names[word] == "class") && names.size() > word + 1) {
      found.defined.push_back(names[word + 1]);
      body = line.indent;
      continue;
    }
    if (is_assignment(line.code, names[0])) found.defined.push_back(names[0]);
    found.mentioned.insert(names.begin(), names.end());
  }
  return found;
}

}  // namespace loam::spec
