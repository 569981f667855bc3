#include <gtest/gtest.h>

#include "env/env.h"
#include "env/section.h"

namespace loam::env {
namespace {

Digest digest(char fill) { return *Digest::parse(std::string(64, fill)); }

Section example() {
  Section section;
  section.base = "debian:bookworm";
  section.platform = platform();
  section.apt = {"python3", "zlib1g"};
  section.pip = {"tokenizers==0.22.0"};
  section.debs = {{"zlib1g", "1:1.2.13.dfsg-1", "amd64", digest('a'), 86680}};
  section.closure = {"3.11",
                     {{"tokenizers", "0.22.0",
                       "tokenizers-0.22.0-cp39-abi3-manylinux_2_17_x86_64.whl", digest('b')}}};
  section.tools = {{"mmdebstrap", "1.3.5"}};
  section.tree = digest('c');
  return section;
}

spec::Env asking(std::vector<std::string> apt, std::vector<std::string> pip) {
  spec::Env env;
  env.base = "debian:bookworm";
  env.apt = std::move(apt);
  env.pip = std::move(pip);
  return env;
}

TEST(Lock, ReadsWhatItWrites) {
  LockFile lock;
  put_section(lock, to_json(example()));
  const auto read = parse_lock(format_lock(lock));
  ASSERT_TRUE(read) << read.error().text;
  ASSERT_EQ(read->sections.size(), 1u);
  EXPECT_EQ(read->sections[0], lock.sections[0]);
  EXPECT_EQ(format_lock(*read), format_lock(lock));
  const auto section = parse_section(read->sections[0]);
  ASSERT_TRUE(section) << section.error().text;
  EXPECT_EQ(section->debs, example().debs);
  EXPECT_EQ(section->closure.wheels, example().closure.wheels);
  EXPECT_EQ(section->tree, example().tree);
}

TEST(Lock, AnswersTheSameQuestionInAnyOrder) {
  const Json section = to_json(example());
  EXPECT_TRUE(answers(section, asking({"zlib1g", "python3", "python3"}, {"tokenizers==0.22.0"})));
  EXPECT_FALSE(answers(section, asking({"python3"}, {"tokenizers==0.22.0"})));
  EXPECT_FALSE(answers(section, asking({"zlib1g", "python3"}, {"tokenizers==0.22.1"})));
  auto other = asking({"zlib1g", "python3"}, {"tokenizers==0.22.0"});
  other.base = "debian:trixie";
  EXPECT_FALSE(answers(section, other));
}

TEST(Lock, KeepsSectionsOfOtherPlatforms) {
  LockFile lock;
  Section foreign = example();
  foreign.platform = "linux/riscv64";
  put_section(lock, to_json(foreign));
  put_section(lock, to_json(example()));
  Section renewed = example();
  renewed.tree = digest('d');
  put_section(lock, to_json(renewed));
  ASSERT_EQ(lock.sections.size(), 2u);
  const auto* found = find_section(lock, asking({"python3", "zlib1g"}, {"tokenizers==0.22.0"}));
  ASSERT_NE(found, nullptr);
  EXPECT_EQ((*found)["tree"].as_string(), digest('d').text());
  EXPECT_EQ(find_section(lock, asking({"python3"}, {})), nullptr);
}

TEST(Lock, GivesItsRoots) {
  store::Roots roots;
  add_roots(to_json(example()), roots);
  EXPECT_EQ(roots.blobs, (std::set<Digest>{digest('a'), digest('b')}));
  EXPECT_EQ(roots.trees, (std::set<Digest>{digest('c')}));
}

// Names in a lock become paths and arguments of tools.
TEST(Lock, RefusesNamesThatAreMore) {
  const auto with = [](const std::function<void(Section&)>& change) {
    Section section = example();
    change(section);
    return parse_section(to_json(section)).has_value();
  };
  EXPECT_TRUE(with([](Section&) {}));
  EXPECT_FALSE(with([](Section& s) { s.base = "debian:../etc"; }));
  EXPECT_FALSE(with([](Section& s) { s.base = "ubuntu:noble"; }));
  EXPECT_FALSE(with([](Section& s) { s.debs[0].name = "../../x"; }));
  EXPECT_FALSE(with([](Section& s) { s.debs[0].name = "-oDebug=1"; }));
  EXPECT_FALSE(with([](Section& s) { s.debs[0].version = "1 2"; }));
  EXPECT_FALSE(with([](Section& s) { s.debs[0].architecture = "a/b"; }));
  EXPECT_FALSE(with([](Section& s) { s.closure.wheels[0].file = "../a-1-py3-none-any.whl"; }));
  EXPECT_FALSE(with([](Section& s) { s.closure.wheels[0].version = "1 --index-url http://x"; }));
  EXPECT_FALSE(with([](Section& s) { s.closure.python = "3;rm"; }));
}

TEST(Lock, RefusesWhatIsNoLock) {
  for (const char* text : {"", "[]", "{}", R"({"version":2,"envs":[]})",
                           R"({"version":1,"envs":[{}]})", R"({"version":1,"envs":{}})"})
    EXPECT_FALSE(parse_lock(text)) << text;
  EXPECT_TRUE(parse_lock(R"({"version":1,"envs":[]})"));
}

TEST(Lock, HostWithoutPipHasNoTree) {
  Context context;
  Json section = Json::object({{"base", "host"}, {"platform", platform()}, {"tree", nullptr}});
  const auto built = build(context, section);
  ASSERT_TRUE(built) << built.error().text;
  EXPECT_FALSE(built->tree);
  EXPECT_EQ(built->digest.size(), 64u);
}

TEST(Lock, SaysWhichPlatformItIsFor) {
  Context context;
  Json section = Json::object({{"base", "host"}, {"platform", "linux/riscv64"}, {"tree", nullptr}});
  const auto built = build(context, section);
  ASSERT_FALSE(built);
  EXPECT_NE(built.error().text.find("linux/riscv64"), std::string::npos);
}

}  // namespace
}  // namespace loam::env
