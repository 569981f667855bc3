#include "node/staleness.h"

#include <gtest/gtest.h>

namespace loam::node {
namespace {

spec::Project project() {
  spec::Project p;
  p.name = "digits";
  p.vars = {{"A", "1"}};
  spec::Step step;
  step.name = "train";
  step.run = {{"sh", "-c", "python3 train.py"}, "python3 train.py"};
  step.params = Json::object({{"lr", 0.1}, {"hidden", 64}});
  step.output = spec::Output{"digits", "model"};
  p.steps.push_back(step);
  return p;
}

StepInputs inputs() {
  return {.env = "e1", .data = {{"digits", "d1"}}, .snapshot = "s1", .upstream = {{"make", "t1"}}};
}

store::ListingEntry entry(const std::string& path, const std::string& content) {
  store::ListingEntry e;
  e.path = path;
  e.object = sha256_of(content);
  return e;
}

TEST(Staleness, NothingChanged) {
  const auto p = project();
  EXPECT_TRUE(
      changes(step_key(p, p.steps[0], inputs()), step_key(p, p.steps[0], inputs())).empty());
}

TEST(Staleness, EachPartIsNamed) {
  const auto before = project();
  auto now = project();
  now.steps[0].params = Json::object({{"lr", 0.2}, {"hidden", 64}, {"epochs", 3}});
  now.vars["A"] = "2";
  now.mounts.push_back({"/data", "/data", spec::MountMode::ro, {}});
  now.steps[0].run.argv = {"sh", "-c", "python3 other.py"};
  now.steps[0].output->path = "elsewhere";
  StepInputs other{
      .env = "e2", .data = {{"digits", "d2"}}, .snapshot = "s2", .upstream = {{"make", "t2"}}};
  const std::vector<std::string> expected{"command",       "data.digits",   "env",       "mounts",
                                          "output",        "params.epochs", "params.lr", "snapshot",
                                          "upstream.make", "vars.A"};
  EXPECT_EQ(
      changes(step_key(before, before.steps[0], inputs()), step_key(now, now.steps[0], other)),
      expected);
}

TEST(Staleness, ResourcesRetriesAndSecretsNeverCount) {
  const auto before = project();
  auto now = project();
  now.steps[0].resources.cpu_milli = 7000;
  now.steps[0].retries = 9;
  now.secrets = {"TOKEN"};
  EXPECT_TRUE(
      changes(step_key(before, before.steps[0], inputs()), step_key(now, now.steps[0], inputs()))
          .empty());
}

// A key goes through the database as text.
TEST(Staleness, KeySurvivesItsText) {
  const auto p = project();
  const Json key = step_key(p, p.steps[0], inputs());
  const auto read = Json::parse(key.dump());
  ASSERT_TRUE(read);
  EXPECT_TRUE(changes(*read, key).empty());
}

TEST(Staleness, FileAndLockAreNoCode) {
  const std::vector<store::ListingEntry> listing{entry("loam.lock", "a"), entry("loam.yaml", "b"),
                                                 entry("other.yaml", "c"), entry("lib/x.py", "d"),
                                                 entry("train.py", "e")};
  const auto paths = [](const auto& entries) {
    std::vector<std::string> found;
    for (const auto& e : entries) found.push_back(e.path);
    return found;
  };
  EXPECT_EQ(paths(code_entries(listing, {}, "other.yaml")),
            (std::vector<std::string>{"lib/x.py", "train.py"}));
  EXPECT_EQ(paths(code_entries(listing, {"train.py"}, "loam.yaml")),
            (std::vector<std::string>{"train.py"}));
  EXPECT_EQ(paths(code_entries(listing, {"lib"}, "loam.yaml")),
            (std::vector<std::string>{"lib/x.py"}));
}

TEST(Staleness, ChangedPathsAreNamedUpToAFew) {
  const std::vector<store::ListingEntry> before{entry("a", "1"), entry("b", "1"),
                                                entry("gone", "1")};
  const std::vector<store::ListingEntry> now{entry("a", "1"), entry("b", "2"), entry("new", "1")};
  EXPECT_EQ(changed_paths(before, now), (std::vector<std::string>{"b", "gone", "new"}));
  EXPECT_EQ(with_paths({"params.lr", "snapshot"}, {"b"}),
            (std::vector<std::string>{"params.lr", "snapshot: b"}));
  const auto many = with_paths({"snapshot"}, {"1", "2", "3", "4", "5", "6", "7"});
  EXPECT_EQ(many.size(), 6u);
  EXPECT_EQ(many.back(), "snapshot: 2 more files");
}

}  // namespace
}  // namespace loam::node
