#include <gtest/gtest.h>

#include "spec/project.h"

namespace loam::spec {
namespace {

struct Match {
  const char* pattern;
  const char* path;
};

TEST(Glob, Matches) {
  for (const auto& [pattern, path] : {
           Match{"a/b.txt", "a/b.txt"}, Match{"a/*.txt", "a/b.txt"}, Match{"*", "x"},
           Match{"*", ".hidden"},       Match{"a?c", "abc"},         Match{"a?c", "aüc"},
           Match{"**", "a/b/c"},        Match{"**/c", "c"},          Match{"**/c", "a/b/c"},
           Match{"a/**", "a/b"},        Match{"a/**/b", "a/b"},      Match{"a/**/b", "a/x/y/b"},
           Match{"x[0-9]", "x7"},       Match{"x[!0-9]", "xa"},      Match{"x[^a]", "xb"},
           Match{"[]a]", "]"},          Match{"[a-]", "-"},          Match{"*.t*t", "a.b.txt"},
           Match{"[ä-ü]", "ö"},         Match{"a*b*c", "aXbXbXc"},   Match{"a\\[b", "a[b"},
           Match{"**/*.py", "a.py"},    Match{"**/**/a", "a"},
       })
    EXPECT_TRUE(matches_pattern(pattern, path)) << pattern << " " << path;
}

TEST(Glob, DoesNotMatch) {
  for (const auto& [pattern, path] : {
           Match{"a", "b"},
           Match{"*", "a/b"},
           Match{"a/*", "a/b/c"},
           Match{"a?c", "a/c"},
           Match{"a", "a/b"},
           Match{"a/b", "a"},
           Match{"x[0-9]", "xa"},
           Match{"x[!0-9]", "x1"},
           Match{"a**b", "a/b"},
           Match{"*.txt", "a.txtx"},
           Match{"", "a"},
           Match{"a", ""},
           Match{"?", ""},
           Match{"**/c", "a/cc"},
           Match{"a[/]b", "a/b"},
       })
    EXPECT_FALSE(matches_pattern(pattern, path)) << pattern << " " << path;
}

// A backtracking matcher needs years for this.
TEST(Glob, HostilePatternsCostLittle) {
  std::string pattern;
  std::string path;
  for (int i = 0; i < 100; ++i) {
    pattern += "**/*a*a*a*a*a*b/";
    path += "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/";
  }
  EXPECT_FALSE(matches_pattern(pattern + "x", path + "y"));
}

TEST(Glob, FolderBeforeTheFirstWildcard) {
  EXPECT_EQ(pattern_folder("data/x-*.jsonl"), "data");
  EXPECT_EQ(pattern_folder("data/a/file.txt"), "data/a");
  EXPECT_EQ(pattern_folder("a/b*/c/d"), "a");
  EXPECT_EQ(pattern_folder("a/**"), "a");
  EXPECT_EQ(pattern_folder("*.csv"), "");
  EXPECT_EQ(pattern_folder("file.csv"), "");
  EXPECT_EQ(pattern_folder("a/[x]/b"), "a");
}

}  // namespace
}  // namespace loam::spec
