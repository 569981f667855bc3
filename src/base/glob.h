// Shell-like patterns over relative paths, as gitignore(5) has them: '*' and '?' within a
// component, '**' as a whole component over any number of them, [a-z], [!a-z], [[:alpha:]], '\'
// takes the next character as it is. A class that is not closed matches nothing. Characters are
// UTF-8's (git's '?' is a byte).
//
// Trust: pattern and path are foreign; matching costs pattern × path at most.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace loam {

class Glob {
 public:
  explicit Glob(std::string_view pattern);

  bool matches(std::string_view path) const;
  // The folder before the first wildcard: "data" of "data/x-*.jsonl", "" for the top folder.
  const std::string& folder() const { return folder_; }

 private:
  enum class Kind { character, any_character, one_of, star, folders, rest };
  struct Token {
    Kind kind = Kind::character;
    char32_t character = 0;
    bool negated = false;                               // one_of
    std::vector<std::pair<char32_t, char32_t>> ranges;  // one_of, both ends included
  };

  bool read_class(const std::u32string& pattern, std::size_t& at);
  static bool takes(const Token& token, char32_t c);
  void add_state(std::vector<char>& states, std::size_t state) const;

  std::vector<Token> tokens_;
  std::string folder_;
  std::string literal_;  // the whole pattern where it has no wildcard
  bool is_literal_ = false;
  bool never_ = false;
};

}  // namespace loam
