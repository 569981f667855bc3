#include "cli/any_box.h"

#include <gtest/gtest.h>

#include "boxes/address.h"
#include "cli/on.h"
#include "cli/parse.h"
#include "cli/verbs.h"
#include "spec/boxes_config.h"

namespace loam::cli {
namespace {

Json step(const std::string& name, const std::string& action, Json start,
          std::initializer_list<Json> after = {}) {
  return Json::object({{"step", name},
                       {"action", action},
                       {"start", std::move(start)},
                       {"after", Json::array(after)}});
}
Json plan(std::initializer_list<Json> steps) {
  return Json::object({{"steps", Json::array(steps)}});
}

TEST(AnyBox, FitsWhereAllThatWouldRunFirstStartsNow) {
  const Json now = Json::object({{"now", true}});
  const Json later = Json::object({{"now", false}, {"why", "waits for 2 GPUs"}});
  EXPECT_EQ(why_not_now(plan({})), "");
  EXPECT_EQ(why_not_now(plan({step("a", "runs", now), step("b", "unchanged", nullptr),
                              step("c", "runs", later, {"a"}), step("d", "may run", later)})),
            "");
  EXPECT_EQ(why_not_now(plan({step("a", "runs", now), step("b", "runs", later)})),
            "b would wait: waits for 2 GPUs");
  Json serving = plan({});
  serving.set(
      "services",
      Json::array({Json::object({{"service", "web"}, {"action", "fails"}, {"model", "digits"}})}));
  EXPECT_EQ(why_not_now(serving), "web has no version of digits there");
}

TEST(On, EveryVerbHasItOrSaysWhyNot) {
  const Parsed up = parse_arguments(all_verbs(), {"up", "--on", "ssh:gpu1"});
  ASSERT_NE(up.verb, nullptr) << up.text;
  EXPECT_EQ(up.arguments.value(kOn), "ssh:gpu1");
  const Parsed run = parse_arguments(all_verbs(), {"run", "--on", "gpu1", "--", "ls", "--on"});
  ASSERT_NE(run.verb, nullptr) << run.text;
  EXPECT_EQ(run.arguments.command, (std::vector<std::string>{"ls", "--on"}));
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"node", "stop", "--on", "gpu1"},
        {"sim", "t.swf", "--on=gpu1"},
        {"completion", "bash", "--on", "x"}}) {
    const Parsed parsed = parse_arguments(all_verbs(), words);
    EXPECT_EQ(parsed.verb, nullptr);
    EXPECT_NE(parsed.text.find("is about the machine that it runs on"), std::string::npos)
        << parsed.text;
  }
}

TEST(On, BoxesFileIsReadWithPlaces) {
  const spec::BoxChecks checks{boxes::destination_problem, boxes::program_problem};
  const auto read = spec::read_boxes_config(
      "boxes:\n  b: anna@gpu1\n  a: {program: /opt/loam}\n  c: {}\n", checks);
  ASSERT_TRUE(read.problems.empty()) << spec::format_problems("boxes.yaml", read.problems);
  ASSERT_EQ(read.boxes.size(), 3u);
  EXPECT_EQ(read.boxes[0].name + read.boxes[0].ssh, "banna@gpu1");  // in the file's order
  EXPECT_EQ(read.boxes[1].name + read.boxes[1].program, "a/opt/loam");
  EXPECT_TRUE(spec::read_boxes_config("# nothing yet\n", checks).problems.empty());
  for (const char* wrong :
       {"boxes: [a]\n", "box: {a: b}\n", "boxes: {any: a}\n", "boxes: {a: -v}\n",
        "boxes: {a: {program: 'x y'}}\n", "boxes: {'a b': c}\n", "boxes: {a: 3}\n"}) {
    const auto refused = spec::read_boxes_config(wrong, checks);
    EXPECT_FALSE(refused.problems.empty()) << wrong;
    EXPECT_TRUE(refused.boxes.empty());
  }
}

}  // namespace
}  // namespace loam::cli
