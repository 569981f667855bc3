#include "node/code_views.h"

#include <gtest/gtest.h>

#include "node/staleness.h"

namespace loam::node {
namespace {

store::ListingEntry entry(const std::string& path, const std::string& content) {
  store::ListingEntry e;
  e.path = path;
  e.object = e.content = sha256_of(content);
  return e;
}

class CodeViewsTest : public testing::Test {
 protected:
  std::map<std::string, std::vector<store::ListingEntry>> trees_{
      {"old", {entry("a.py", "1"), entry("lib/b.py", "1"), entry("loam.yaml", "1")}},
      {"new", {entry("a.py", "2"), entry("lib/c.py", "1"), entry("loam.yaml", "2")}}};
  int looks_ = 0;
  CodeViews views_{[this](const std::string& tree) {
    ++looks_;
    return trees_[tree];
  }};
};

TEST_F(CodeViewsTest, IsWhatAListingSays) {
  for (const CodeViews::Patterns& patterns : {CodeViews::Patterns{}, {"lib"}, {"*.py"}})
    for (const char* tree : {"old", "new"})
      EXPECT_EQ(views_.digest({tree, "loam.yaml"}, patterns),
                store::Store::listing_digest(code_entries(trees_[tree], patterns, "loam.yaml")).hex());
  EXPECT_NE(views_.digest({"old", "loam.yaml"}, {}), views_.digest({"old", "a.py"}, {}));
  EXPECT_EQ(views_.changed("old", {"new", "loam.yaml"}, {}),
            (std::vector<std::string>{"a.py", "lib/b.py", "lib/c.py"}));
  EXPECT_EQ(views_.changed("old", {"new", "loam.yaml"}, {"lib"}),
            (std::vector<std::string>{"lib/b.py", "lib/c.py"}));
  EXPECT_EQ(views_.changed("old", {"new", "a.py"}, {"*.py"}), (std::vector<std::string>{}));
}

TEST_F(CodeViewsTest, ATreeThatIsGoneIsLikeNoOther) {
  EXPECT_NE(views_.digest({"gone", "loam.yaml"}, {}), views_.digest({"lost", "loam.yaml"}, {}));
}

// Two hundred steps over 20,000 files took 6.9 s of the loop.
TEST_F(CodeViewsTest, LooksOnceForAllStepsOfAProject) {
  spec::Project project;
  for (int i = 0; i < 200; ++i) {
    spec::Step step;
    step.name = "s" + std::to_string(i);
    step.code = i % 2 == 0 ? CodeViews::Patterns{} : CodeViews::Patterns{"lib/" + std::to_string(i)};
    project.steps.push_back(step);
  }
  views_.look_at({"new", "loam.yaml"}, project);
  views_.look_at({"new", "loam.yaml"}, project);
  for (const spec::Step& step : project.steps) (void)views_.digest({"new", "loam.yaml"}, step.code);
  EXPECT_EQ(looks_, 1);
  for (const spec::Step& step : project.steps)
    (void)views_.changed("old", {"new", "loam.yaml"}, step.code);
  EXPECT_EQ(looks_, 3);  // of two trees
}

}  // namespace
}  // namespace loam::node
