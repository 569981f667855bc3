#include <gtest/gtest.h>

#include "base/process.h"
#include "base/text.h"
#include "store/snapshot.h"
#include "store/test_folder.h"

namespace loam::store {
namespace {

bool ignores(std::string_view rules, const std::string& path, bool is_folder = false) {
  IgnoreRules set;
  set.add(rules, "");
  return set.ignores(path, is_folder);
}

// Each sentence of gitignore(5), "PATTERN FORMAT".
TEST(Ignore, BlankLinesAndComments) {
  EXPECT_FALSE(ignores("\n\n# a\n", "a"));
  EXPECT_TRUE(ignores("\\#a\n", "#a"));
}

TEST(Ignore, TrailingSpacesUnlessQuoted) {
  EXPECT_TRUE(ignores("a  \n", "a"));
  EXPECT_TRUE(ignores("a\\ \n", "a "));
  EXPECT_FALSE(ignores("a\\ \n", "a"));
}

TEST(Ignore, NegationAndItsLimit) {
  EXPECT_FALSE(ignores("*.log\n!keep.log\n", "keep.log"));
  EXPECT_TRUE(ignores("*.log\n!keep.log\n", "other.log"));
  EXPECT_TRUE(ignores("logs/\n!logs/keep.log\n", "logs/keep.log")) << "its folder is excluded";
  EXPECT_FALSE(ignores("logs/*\n!logs/keep.log\n", "logs/keep.log"));
  EXPECT_TRUE(ignores("\\!important\n", "!important"));
}

TEST(Ignore, ASlashAnchorsATrailingOneDoesNot) {
  EXPECT_TRUE(ignores("/a\n", "a"));
  EXPECT_FALSE(ignores("/a\n", "x/a"));
  EXPECT_TRUE(ignores("doc/frotz/\n", "doc/frotz", true));
  EXPECT_FALSE(ignores("doc/frotz/\n", "a/doc/frotz", true));
  EXPECT_TRUE(ignores("frotz/\n", "a/frotz", true));
  EXPECT_FALSE(ignores("frotz/\n", "a/frotz", false)) << "a file of that name stays";
  EXPECT_TRUE(ignores("frotz/\n", "a/frotz/x", false));
  EXPECT_TRUE(ignores("name\n", "a/b/name"));
}

TEST(Ignore, Stars) {
  EXPECT_TRUE(ignores("foo/*\n", "foo/test.json"));
  EXPECT_FALSE(ignores("foo/*.c\n", "foo/bar/hello.c"));
  EXPECT_TRUE(ignores("**/foo/bar\n", "x/y/foo/bar"));
  EXPECT_TRUE(ignores("abc/**\n", "abc/x/y"));
  EXPECT_FALSE(ignores("abc/**\n", "abc", true));
  EXPECT_TRUE(ignores("a/**/b\n", "a/b"));
  EXPECT_TRUE(ignores("a/**/b\n", "a/x/y/b"));
}

TEST(Ignore, CarriageReturnsAndAByteOrderMark) {
  EXPECT_TRUE(
      ignores("\xEF\xBB\xBF"
              "a\r\nb\r\n",
              "a"));
  EXPECT_TRUE(ignores("a\r\nb\r\n", "b"));
}

TEST(Ignore, AFolderBelowHasItsOwnRulesAndTheLastWord) {
  IgnoreRules set;
  set.add("*.bin\n", "");
  const std::size_t before = set.size();
  set.add("!x.bin\n/local\n", "sub");
  EXPECT_FALSE(set.ignores("sub/x.bin", false));
  EXPECT_TRUE(set.ignores("x.bin", false));
  EXPECT_TRUE(set.ignores("sub/local", false));
  EXPECT_FALSE(set.ignores("sub/deeper/local", false));
  EXPECT_FALSE(set.ignores("subx/local", false));
  set.shrink(before);
  EXPECT_TRUE(set.ignores("sub/x.bin", false));
}

// Git itself is the judge: rules by chance over paths by chance.
TEST(Ignore, AgreesWithGit) {
  if (::access("/usr/bin/git", X_OK) != 0) GTEST_SKIP() << "git is not installed";
  const TestFolder folder;
  ASSERT_TRUE(run_collect({.argv = {"git", "init", "-q", folder.path()}})->ok());
  const std::vector<std::string> paths = {"a",         "b.log",   "a/b",       "a/b.log",  "a/c/b",
                                          "a/c/b.log", "build/x", "c/build/x", "d e",      "x[1]",
                                          "a*b",       "c/d/e/f", ".hidden",   "c/.hidden"};
  const std::vector<std::string> parts = {
      "a",    "b",        "*.log", "**",  "*",     "c",   "build",       "b*",  "?", "[a-c]",
      "[!a]", "x\\[1\\]", "d\\ e", ".h*", "a\\*b", "d e", "[[:alpha:]]", "**b", "e*"};
  for (const std::string& path : paths)
    if (path != "a") folder.file(path, "x");
  unsigned seed = 12345;
  const auto chance = [&](std::size_t count) {
    seed = seed * 1664525u + 1013904223u;
    return static_cast<std::size_t>(seed >> 8) % count;
  };
  for (int round = 0; round < 120; ++round) {
    std::string rules;
    for (std::size_t line = 0; line <= chance(4); ++line) {
      std::string rule = chance(4) == 0 ? "!" : "";
      if (chance(4) == 0) rule += "/";
      rule += parts[chance(parts.size())];
      for (std::size_t more = chance(3); more > 0; --more)
        rule += "/" + parts[chance(parts.size())];
      if (chance(5) == 0) rule += "/";
      rules += rule + "\n";
    }
    folder.file(".gitignore", rules);
    std::vector<std::string> argv = {"git",          "-C",         folder.path(),
                                     "check-ignore", "--no-index", "--"};
    argv.insert(argv.end(), paths.begin(), paths.end());
    const auto output = run_collect({.argv = argv});
    ASSERT_TRUE(output.has_value());
    std::vector<std::string> ours;
    IgnoreRules set;
    set.add(rules, "");
    for (const std::string& path : paths)
      if (set.ignores(path, path == "a")) ours.push_back(path);
    std::vector<std::string> theirs = split(output->standard_output, '\n');
    std::erase(theirs, "");
    for (std::string& path : theirs)  // git quotes what has odd bytes
      if (path.starts_with('"')) path = path.substr(1, path.size() - 2);
    EXPECT_EQ(ours, theirs) << rules;
  }
}

}  // namespace
}  // namespace loam::store
