// Requirements as `pip:` takes them: names from the index with versions, extras and markers
// (packaging.python.org, "Dependency specifiers"). Options, URLs and local paths are refused: they
// would bring code that the lock cannot name.
#include <algorithm>
#include <array>
#include <cctype>

#include "base/text.h"
#include "spec/checks.h"
#include "spec/parts.h"

namespace loam::spec {
namespace {

constexpr std::size_t kRequirementsMax = 5000;

bool is_name_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.';
}

std::size_t name_length(std::string_view text) {
  std::size_t length = 0;
  while (length < text.size() && is_name_character(text[length])) ++length;
  return length;
}

// "" or what is wrong with ">=1,<2".
std::string specifiers_problem(std::string_view text) {
  static constexpr std::array<std::string_view, 8> kOperators{
      "===", "==", "~=", "!=", "<=", ">=", "<", ">"};
  for (const std::string& part : split(text, ',')) {
    std::string_view rest = trim(part);
    const auto used =
        std::find_if(kOperators.begin(), kOperators.end(),
                     [&](std::string_view candidate) { return rest.starts_with(candidate); });
    if (used == kOperators.end())
      return rest.starts_with("=")
                 ? "'=' compares nothing; write '=='"
                 : quoted(rest) + " is no version; expected such as ==1.2 or >=1,<2";
    rest = trim(rest.substr(used->size()));
    static constexpr std::string_view kVersion =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.*+!-_";
    if (rest.empty() || rest.find_first_not_of(kVersion) != std::string_view::npos)
      return quoted(rest) + " is no version; expected such as 1.2.3";
  }
  return "";
}

// " --hash=sha256:…" from the first hash on is the file's own; nothing else begins with "--".
std::string hashes_problem(std::string_view text) {
  static constexpr std::string_view kHash = "--hash=sha256:";
  for (const std::string& word : split(text, ' ')) {
    if (word.empty()) continue;
    const std::string_view digest =
        word.starts_with(kHash) ? std::string_view(word).substr(kHash.size()) : "";
    if (digest.size() != 64 ||
        digest.find_first_not_of("0123456789abcdef") != std::string_view::npos)
      return quoted(word) + " is not taken here; only --hash=sha256:… may follow a requirement";
  }
  return "";
}

// The line without its comment ('#' at the start or after white space).
std::string_view without_comment(std::string_view line) {
  for (std::size_t i = 0; i < line.size(); ++i)
    if (line[i] == '#' && (i == 0 || line[i - 1] == ' ' || line[i - 1] == '\t'))
      return line.substr(0, i);
  return line;
}

struct LogicalLine {
  int number = 0;
  std::string text;
};

std::vector<LogicalLine> logical_lines(std::string_view text) {
  std::vector<LogicalLine> lines;
  bool continues = false;
  int number = 0;
  for (const std::string& line : split(text, '\n')) {
    ++number;
    std::string_view content = trim(without_comment(line));
    if (!continues) lines.push_back({number, ""});
    continues = content.ends_with('\\');
    if (continues) content = trim(content.substr(0, content.size() - 1));
    std::string& whole = lines.back().text;
    if (!whole.empty() && !content.empty()) whole += ' ';
    whole += content;
  }
  return lines;
}

}  // namespace

std::string requirement_problem(std::string_view line) {
  if (line.size() > kPathBytesMax * 16) return "a requirement of more than 16 KiB";
  if (line.find_first_of("\n\r") != std::string_view::npos) return "a requirement is one line";
  if (line.starts_with('-'))
    return quoted(line) +
           " is an option; only requirements such as numpy==1.26.4 are taken "
           "(indexes are configured in the host's pip.conf)";
  if (line.find("://") != std::string_view::npos || line.find(" @") != std::string_view::npos ||
      line.starts_with('.') || line.starts_with('/') || line.ends_with(".whl"))
    return quoted(line) + " is an address or a path; only names of the package index are taken";
  const auto hashes = line.find(" --");
  if (hashes != std::string_view::npos) {
    if (std::string wrong = hashes_problem(line.substr(hashes)); !wrong.empty()) return wrong;
    line = trim(line.substr(0, hashes));
  }
  const std::size_t name = name_length(line);
  if (name == 0 || !std::isalnum(static_cast<unsigned char>(line[0])) ||
      !std::isalnum(static_cast<unsigned char>(line[name - 1])))
    return quoted(line) + " is no requirement; expected a package such as numpy==1.26.4";
  std::string_view rest = trim(line.substr(name));
  if (rest.starts_with('[')) {
    const auto end = rest.find(']');
    if (end == std::string_view::npos) return quoted(line) + " has a '[' without its ']'";
    rest = trim(rest.substr(end + 1));
  }
  rest = trim(rest.substr(0, rest.find(';')));
  if (rest.starts_with('(') && rest.ends_with(')')) rest = trim(rest.substr(1, rest.size() - 2));
  return rest.empty() ? "" : specifiers_problem(rest);
}

std::vector<std::string> read_requirements(const Value& value, const std::string& file,
                                           std::string_view text) {
  std::vector<std::string> requirements;
  if (!is_utf8(text)) {
    value.problem(quoted(file) + " is not UTF-8 text");
    return requirements;
  }
  for (LogicalLine& line : logical_lines(text)) {
    if (line.text.empty()) continue;
    if (requirements.size() >= kRequirementsMax) {
      value.problem(quoted(file) + " has more than " + std::to_string(kRequirementsMax) +
                    " requirements");
      break;
    }
    if (const std::string wrong = requirement_problem(line.text); !wrong.empty())
      value.problem(file + ":" + std::to_string(line.number) + ": " + wrong);
    else
      requirements.push_back(std::move(line.text));
  }
  return requirements;
}

}  // namespace loam::spec
