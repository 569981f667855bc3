#include "base/json.h"

#include <gtest/gtest.h>

namespace loam {
namespace {

TEST(Json, DumpIsCanonical) {
  Json value;
  value.set("b", Json::array({1, "x\n\"", true, nullptr}));
  value.set("a", -5);
  value.set("é", 0.5);
  EXPECT_EQ(value.dump(), "{\"a\":-5,\"b\":[1,\"x\\n\\\"\",true,null],\"é\":0.5}");
}

TEST(Json, ParseThenDumpIsStable) {
  const std::string text = R"({"a":[{},[],""],"n":9007199254740991,"u":"\u0001ü"})";
  const auto value = Json::parse(text);
  ASSERT_TRUE(value);
  EXPECT_EQ(value->dump(), text);
  EXPECT_EQ(Json::parse(value->pretty())->dump(), text);
}

TEST(Json, RefusesWhatRecordsMustNotHold) {
  const char* bad[] = {"", "{", "{\"a\":1,\"a\":2}", "9007199254740992", "-9007199254740992", "1e999", "\"\xff\"",
                       "[1] x", "{\"a\":}", "nul"};
  for (const char* text : bad) EXPECT_FALSE(Json::parse(text)) << text;
  EXPECT_FALSE(Json::parse(std::string(100, '[') + std::string(100, ']')));
  EXPECT_TRUE(Json::parse(std::string(60, '[') + std::string(60, ']')));
}

TEST(Json, StrictReadsNameTheKey) {
  const Json value = Json::object({{"a", "x"}, {"n", 3}});
  EXPECT_EQ(*value.string_at("a"), "x");
  EXPECT_EQ(*value.int_at("n"), 3);
  EXPECT_NE(value.int_at("a").error().text.find("'a'"), std::string::npos);
  EXPECT_FALSE(value.bool_at("missing"));
}

TEST(Json, TolerantReadsFallBack) {
  const Json value = Json::object({{"a", 1}});
  EXPECT_EQ(value["nothing"]["below"].as_string(), "");
  EXPECT_EQ(value["a"].as_double(), 1.0);
  EXPECT_EQ(value["a"].as_bool(true), true);
}

}  // namespace
}  // namespace loam
