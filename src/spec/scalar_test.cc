#include "spec/scalar.h"

#include <gtest/gtest.h>

namespace loam::spec {
namespace {

ScalarType type_of(const std::string& text, bool quoted = false) {
  Node node;
  node.kind = Node::Kind::scalar;
  node.text = text;
  node.quoted = quoted;
  return scalar_type(node);
}

TEST(Scalar, CoreSchema) {
  for (const char* text : {"0", "-3", "+4", "010", "0x1F", "0o17", "123456789012345678901"})
    EXPECT_EQ(type_of(text), ScalarType::integer) << text;
  for (const char* text : {"1e-3", ".5", "3.", "-0.0", "1E5", "+.5e+3", ".inf", "-.INF", ".nan"})
    EXPECT_EQ(type_of(text), ScalarType::fraction) << text;
  for (const char* text : {"true", "True", "FALSE"}) EXPECT_EQ(type_of(text), ScalarType::boolean);
  for (const char* text :
       {"yes", "no", "on", "off",   "y",    "12:30",      "1_000", "0b1",  "0xG", "1e", "e5",
        ".",   "-",  "+",  "1.2.3", "2GiB", "2024-01-01", "0x",    "tRue", "inf", "1 ", ""})
    EXPECT_EQ(type_of(text), ScalarType::text) << text;
  for (const char* text : {"1", "true", "1.5"}) EXPECT_EQ(type_of(text, true), ScalarType::text);
}

TEST(Scalar, Values) {
  EXPECT_EQ(parse_integer("+4"), 4);
  EXPECT_EQ(parse_integer("0x1F"), 31);
  EXPECT_EQ(parse_integer("0o17"), 15);
  EXPECT_EQ(parse_integer("-9223372036854775808"), INT64_MIN);
  EXPECT_FALSE(parse_integer("9223372036854775808"));
  EXPECT_FALSE(parse_integer("1.0"));
  EXPECT_FALSE(parse_integer(""));
  EXPECT_EQ(parse_number("1e-3"), 0.001);
  EXPECT_EQ(parse_number("+.5"), 0.5);
  EXPECT_EQ(parse_number("3."), 3.0);
  EXPECT_FALSE(parse_number("1e999"));
  EXPECT_FALSE(parse_number(".inf"));
  EXPECT_TRUE(has_leading_zero("-07"));
  EXPECT_FALSE(has_leading_zero("0"));
  EXPECT_FALSE(has_leading_zero("0.5"));
  EXPECT_FALSE(has_leading_zero("0x7"));
}

}  // namespace
}  // namespace loam::spec
