#include "base/glob.h"

#include <gtest/gtest.h>

namespace loam {
namespace {

bool matches(const char* pattern, const std::string& path) { return Glob(pattern).matches(path); }

TEST(Glob, StarAndQuestionMarkStayWithinAComponent) {
  EXPECT_TRUE(matches("data/*.jsonl", "data/a.jsonl"));
  EXPECT_TRUE(matches("data/*", "data/.hidden"));
  EXPECT_FALSE(matches("data/*.jsonl", "data/x/a.jsonl"));
  EXPECT_FALSE(matches("data*", "data/a"));
  EXPECT_TRUE(matches("a?c", "abc"));
  EXPECT_TRUE(matches("a?c", "aéc")) << "a character, not a byte";
  EXPECT_FALSE(matches("a?c", "a/c"));
  EXPECT_FALSE(matches("*",
                       ""
                       "a/b"));
}

TEST(Glob, TwoStarsSpanComponents) {
  EXPECT_TRUE(matches("**/x", "x"));
  EXPECT_TRUE(matches("**/x", "a/b/x"));
  EXPECT_FALSE(matches("**/x", "a/bx"));
  EXPECT_TRUE(matches("a/**/b", "a/b"));
  EXPECT_TRUE(matches("a/**/b", "a/x/y/b"));
  EXPECT_FALSE(matches("a/**/b", "a/xb"));
  EXPECT_FALSE(matches("a/**/b", "ab"));
  EXPECT_TRUE(matches("a/**", "a/x/y"));
  EXPECT_FALSE(matches("a/**", "a"));
  EXPECT_FALSE(matches("a/**", "ab/x"));
  EXPECT_TRUE(matches("**", "a/b"));
  EXPECT_TRUE(matches("a**b", "axxb")) << "elsewhere two stars are one";
  EXPECT_FALSE(matches("a**b", "ax/xb"));
  EXPECT_TRUE(matches("**/**/x", "x"));
  EXPECT_TRUE(matches("**/a*/x", "b/ab/x"));
}

TEST(Glob, Classes) {
  EXPECT_TRUE(matches("[a-c]x", "bx"));
  EXPECT_FALSE(matches("[!a-c]x", "bx"));
  EXPECT_TRUE(matches("[^a-c]x", "dx"));
  EXPECT_TRUE(matches("[]-]", "]"));
  EXPECT_TRUE(matches("[]-]", "-"));
  EXPECT_TRUE(matches("[[:digit:]x]", "7"));
  EXPECT_FALSE(matches("[[:nonsense:]]", "n"));
  EXPECT_FALSE(matches("a[!x]b", "a/b"));
  EXPECT_FALSE(matches("a[b", "a[b")) << "not closed";
  EXPECT_TRUE(matches("[а-я]", "ж"));
  EXPECT_TRUE(matches("[\\]]", "]"));
}

TEST(Glob, EscapesAndLiterals) {
  EXPECT_TRUE(matches("a\\*b", "a*b"));
  EXPECT_FALSE(matches("a\\*b", "axb"));
  EXPECT_TRUE(matches("plain/name", "plain/name"));
  EXPECT_FALSE(matches("plain/name", "plain/names"));
  EXPECT_TRUE(matches("x\xff*",
                      "x\xff"
                      "y"))
      << "bytes that are not UTF-8";
}

TEST(Glob, TheFolderBeforeTheFirstWildcard) {
  EXPECT_EQ(Glob("data/x-*.jsonl").folder(), "data");
  EXPECT_EQ(Glob("data/sub/[ab]/x").folder(), "data/sub");
  EXPECT_EQ(Glob("*.csv").folder(), "");
  EXPECT_EQ(Glob("data/one.csv").folder(), "data");
}

// With backtracking this would not end within the age of the universe.
TEST(Glob, ManyStarsCostLittle) {
  std::string pattern;
  for (int i = 0; i < 100; ++i) pattern += "*a";
  EXPECT_FALSE(Glob(pattern + "b").matches(std::string(1000, 'a')));
  std::string folders;
  for (int i = 0; i < 100; ++i) folders += "**/a/";
  std::string path;
  for (int i = 0; i < 500; ++i) path += "a/";
  EXPECT_FALSE(Glob(folders + "b").matches(path + "c"));
}

}  // namespace
}  // namespace loam
