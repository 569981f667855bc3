#include "spec/yaml.h"

#include <gtest/gtest.h>

#include "base/text.h"

namespace loam::spec {
namespace {

std::string only_problem(const Document& document) {
  if (document.problems.size() != 1) return std::to_string(document.problems.size()) + " problems";
  const Problem& problem = document.problems[0];
  return std::to_string(problem.place.line) + ":" + std::to_string(problem.place.column) + ": " +
         problem.message;
}

std::string repeat(std::string_view text, std::size_t times) {
  std::string out;
  for (std::size_t i = 0; i < times; ++i) out += text;
  return out;
}

bool says(const Document& document, std::string_view text) {
  const std::string problem = only_problem(document);
  EXPECT_NE(problem.find(text), std::string::npos) << problem;
  return problem.find(text) != std::string::npos && !document.root;
}

TEST(Yaml, KeepsPlacesAndQuotes) {
  const Document document = read_yaml("a: 1\nb:\n  - 'x'\n  - {ü: \"y\", z: z}\n");
  ASSERT_TRUE(document.root);
  ASSERT_EQ(document.root->members.size(), 2u);
  const Member& b = document.root->members[1];
  EXPECT_EQ(b.key, "b");
  EXPECT_EQ(b.place.line, 2);
  ASSERT_EQ(b.value.items.size(), 2u);
  EXPECT_TRUE(b.value.items[0].quoted);
  EXPECT_EQ(b.value.items[0].place.column, 5);
  const Node& map = b.value.items[1];
  ASSERT_EQ(map.members.size(), 2u);
  EXPECT_EQ(map.members[0].value.place.column, 9);
  EXPECT_EQ(map.members[1].place.column, 14) << "columns count characters, not bytes";
  EXPECT_FALSE(map.members[1].value.quoted);
}

TEST(Yaml, FollowsAliases) {
  const Document document = read_yaml("a: &x {k: v}\nb: *x\n");
  ASSERT_TRUE(document.root);
  ASSERT_EQ(document.root->members.size(), 2u);
  ASSERT_EQ(document.root->members[1].value.members.size(), 1u);
  EXPECT_EQ(document.root->members[1].value.members[0].value.text, "v");
}

TEST(Yaml, AByteOrderMarkIsNoCharacter) {
  const Document document = read_yaml(
      "\xEF\xBB\xBF"
      "a: !x b\n");
  EXPECT_EQ(
      only_problem(document),
      "1:4: the tag '!x' is not known here; remove it, or put text that begins with '!' in quotes");
}

TEST(Yaml, RefusesAFileOverTheLimitBeforeParsing) {
  EXPECT_TRUE(
      says(read_yaml(std::string(100u << 20, '[')), "1:1: the file has more than 1048576 bytes"));
  EXPECT_TRUE(says(read_yaml("a: " + std::string(kFileBytesMax, 'x')), "more than 1048576 bytes"));
}

TEST(Yaml, RefusesBytesThatAreNotUtf8WithTheirPlace) {
  EXPECT_TRUE(says(read_yaml("a: b\nc: d\xC3\xA9\xE9\n"), "2:6: the byte 0xe9 is not UTF-8"));
  EXPECT_TRUE(says(read_yaml("\xFF\xFE"
                             "a\0"),
                   "1:1: the byte 0xff is not UTF-8"));
  EXPECT_TRUE(says(read_yaml("a: \xC0\x80\n"), "1:4: the byte 0xc0"));      // overlong NUL
  EXPECT_TRUE(says(read_yaml("a: \xED\xA0\x80\n"), "1:4: the byte 0xed"));  // a surrogate
  EXPECT_TRUE(says(read_yaml("a: \xE2\x98"), "1:4: the byte 0xe2"));        // cut off
  EXPECT_TRUE(says(read_yaml(std::string("a\0b", 3)), "1:2: the control byte 0x00"));
}

TEST(Yaml, RefusesEscapesThatMakeNul) {
  EXPECT_EQ(only_problem(read_yaml("a: \"x\\0y\"\n")),
            "1:4: an escape makes a NUL byte or no valid character; remove it");
  EXPECT_EQ(only_problem(read_yaml("a: \"\\x00\"\n")).substr(0, 18), "1:4: an escape mak");
}

TEST(Yaml, RefusesABillionLaughs) {
  std::string text = "a: &a [x,x,x,x,x,x,x,x,x]\n";
  for (char c = 'b'; c <= 'j'; ++c) {
    const std::string alias = std::string("*") + static_cast<char>(c - 1);
    text += std::string(1, c) + ": &" + c + " [" + alias + repeat("," + alias, 8) + "]\n";
  }
  EXPECT_TRUE(says(read_yaml(text), "more than 20000 values"));
}

TEST(Yaml, RefusesLongTextsManyTimes) {
  const std::string text =
      "a: &a \"" + std::string(400'000, 'x') + "\"\nb: [*a" + repeat(",*a", 1000) + "]\n";
  EXPECT_TRUE(says(read_yaml(text), "4194304 bytes of text"));
}

TEST(Yaml, RefusesManyNodesInAnyShape) {
  EXPECT_TRUE(says(read_yaml("[a" + repeat(",a", 30'000) + "]"), "more than 20000 values"));
  EXPECT_TRUE(says(read_yaml("[" + repeat(",", 30'000) + "]"), "more than 20000 values"));
  std::string keys;
  for (int i = 0; i < 30'000; ++i) keys += "k" + std::to_string(i) + ":\n";
  EXPECT_TRUE(says(read_yaml(keys), "more than 20000 values"));
}

TEST(Yaml, RefusesDeepNestingInAnyShape) {
  for (const char* part : {"[", "{", "{a: ", "- ", "? ", "[{"})
    EXPECT_TRUE(says(read_yaml(repeat(part, 50'000)), "nested deeper than 32")) << part;
  std::string aliases = "a0: &a0 [x]\n";
  for (int i = 1; i < 20; ++i)
    aliases += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [[[*a" +
               std::to_string(i - 1) + "]]]\n";
  EXPECT_TRUE(says(read_yaml(aliases), "nested deeper than 32"));
  EXPECT_TRUE(read_yaml(repeat("[", 32) + repeat("]", 32)).root);
  EXPECT_FALSE(read_yaml(repeat("[", 33) + repeat("]", 33)).root);
}

TEST(Yaml, ATabThatIndentsIsNamed) {
  for (const char* text : {"a:\n\tb: 1\n", "a:\n  b: 1\n\tc: 2\n", "a:\n\t- b\n",
                           "a: {b: 1,\n\tc: 2}\n", "a:\n  b:\n  \tc: 1\n", "a:\n\t\"b\"\n"}) {
    const Document document = read_yaml(text);
    ASSERT_EQ(document.problems.size(), 1u) << text;
    EXPECT_EQ(document.problems[0].message, "a tab indents this line; indent with spaces") << text;
  }
  EXPECT_EQ(only_problem(read_yaml("a:\n  b: 1\n  \tc: 2\n")).substr(0, 4), "3:3:");
  // YAML allows this one, yaml-cpp does not; nobody sees it.
  EXPECT_EQ(only_problem(read_yaml("a: b\n\t\nc: d\n")),
            "2:1: a tab in a line that looks empty; remove it");
}

TEST(Yaml, TabsElsewhereAreTheUsers) {
  EXPECT_TRUE(read_yaml("a: |\n  x\n  \ty\n").problems.empty());
  EXPECT_TRUE(read_yaml("a:\tb\t# c\n").problems.empty());
  EXPECT_TRUE(read_yaml("a: {}\n\t# comment\n\t\n").problems.empty());
  EXPECT_TRUE(read_yaml("a: \"x\n\ty\"\n").problems.empty());
}

TEST(Yaml, AnOpenQuoteIsFound) {
  EXPECT_TRUE(says(read_yaml("a: \"x\nb: y\n"), "1:4: not valid YAML: this quote is never closed"));
  EXPECT_TRUE(says(read_yaml("a: 'it''s\n"), "1:4: not valid YAML: this quote is never closed"));
  EXPECT_TRUE(says(read_yaml("a: &x \"x\\\"\n"), "never closed"));
  EXPECT_TRUE(says(read_yaml("\"a: b\n"), "never closed"));
  EXPECT_TRUE(read_yaml("a: 'it''s'\nb: \"\\\"\"\nc: &x !!str 'y'\n").problems.empty());
}

TEST(Yaml, OneDocument) {
  EXPECT_TRUE(says(read_yaml("a: 1\n---\nb: 2\n"), "2:1: a second document begins here"));
  EXPECT_TRUE(read_yaml("---\na: 1\n...\n").root);
  const Document empty = read_yaml("");
  ASSERT_TRUE(empty.root);
  EXPECT_EQ(empty.root->kind, Node::Kind::null);
}

TEST(Yaml, DuplicateKeysNameTheFirst) {
  const Document document = read_yaml("a: 1\nb: {c: 1, c: 2}\na: 3\n");
  ASSERT_EQ(document.problems.size(), 2u);
  EXPECT_EQ(document.problems[0].key, "b.c");
  EXPECT_EQ(document.problems[1].message, "this key is given twice; first at line 1, column 1");
  EXPECT_EQ(document.root->members[0].value.text, "1") << "the first one counts";
}

}  // namespace
}  // namespace loam::spec
