#include "base/text.h"

#include <gtest/gtest.h>

namespace loam {
namespace {

using std::chrono::milliseconds;

TEST(Text, Sizes) {
  EXPECT_EQ(*parse_size("2GiB"), 2ull << 30);
  EXPECT_EQ(*parse_size("512MB"), 512'000'000ull);
  EXPECT_EQ(*parse_size("1.5KiB"), 1536u);
  EXPECT_EQ(*parse_size("7"), 7u);
  EXPECT_EQ(*parse_size("0.5KiB"), 512u);
  EXPECT_EQ(*parse_size("0"), 0u);
  EXPECT_EQ(parse_size("010MiB").error().text, "'010MiB' could be read as octal; write it without the leading zero");
  for (const char* bad :
       {"", "GiB", "010MiB", "00", " 01.5GiB", "2Gib", "-1MB", "1..2MB", "2 GiBs", "1e3MB", "99999999TiB", "$X"})
    EXPECT_FALSE(parse_size(bad)) << bad;
}

TEST(Text, Durations) {
  EXPECT_EQ(*parse_duration("30s"), milliseconds(30'000));
  EXPECT_EQ(*parse_duration("5ms"), milliseconds(5));
  EXPECT_EQ(*parse_duration("1m30s"), milliseconds(90'000));
  EXPECT_EQ(*parse_duration("1h05m"), milliseconds(3'900'000)) << "as people write it";
  EXPECT_EQ(*parse_duration("7d"), milliseconds(604'800'000));
  for (const char* bad : {"", "5", "s", "010m", "00s", "5 minutes", "-1s", "1s2", "300000000000d"})
    EXPECT_FALSE(parse_duration(bad)) << bad;
}

TEST(Text, Nearest) {
  const std::vector<std::string> keys{"memory", "cpus", "time"};
  EXPECT_EQ(nearest("memroy", keys), "memory");
  EXPECT_EQ(nearest("cpu", keys), "cpus");
  EXPECT_EQ(nearest("banana", keys), "");
  EXPECT_EQ(nearest(std::string(10'000, 'x'), keys), "");
}

TEST(Text, Utf8) {
  EXPECT_TRUE(is_utf8("plain é 漢 😀"));
  for (const char* bad :
       {"\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xe2\x82", "a\x80"})
    EXPECT_FALSE(is_utf8(bad));
}

TEST(Text, PathsUnderFolders) {
  EXPECT_TRUE(starts_with_path("/a/b", "/a"));
  EXPECT_TRUE(starts_with_path("/a/b", "/a/"));
  EXPECT_FALSE(starts_with_path("/ab", "/a"));
  EXPECT_TRUE(starts_with_path("/a", "/"));
}

TEST(Text, ForeignTextCannotDriveATerminal) {
  EXPECT_EQ(printable("a\x1b[2Jb\n"), "a\\x1b[2Jb\n");
  EXPECT_EQ(printable("\xc2\x9b"
                      "2J"),
            "\\xc2\\x9b2J");  // CSI as one character
  EXPECT_EQ(printable("\x9b"
                      "2J"),
            "\\x9b2J");  // and as one byte
  EXPECT_EQ(printable("\xc2\xa0\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"),
            "\xc2\xa0\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
}

// What is not seen, or turns the order of what follows it.
TEST(Text, PrintableShowsWhatHides) {
  EXPECT_EQ(printable("a\u200Bb\u202Ec\uFEFF"), R"(a\xe2\x80\x8bb\xe2\x80\xaec\xef\xbb\xbf)");
}

TEST(Text, Hex) {
  EXPECT_EQ(to_hex(*from_hex("00ff7a")), "00ff7a");
  EXPECT_FALSE(from_hex("0"));
  EXPECT_FALSE(from_hex("0G"));
}

TEST(Text, ListsOfNumbersAsTheKernelWritesThem) {
  EXPECT_EQ(format_numbers({8, 0, 1, 2, 3, 3}), "0-3,8");
  EXPECT_EQ(format_numbers({}), "");
  EXPECT_EQ(parse_numbers("0-3,8\n"), (std::vector<std::uint32_t>{0, 1, 2, 3, 8}));
  EXPECT_EQ(parse_numbers("12\n7\n"), (std::vector<std::uint32_t>{12, 7}));
  EXPECT_TRUE(parse_numbers("").empty());
  EXPECT_EQ(parse_numbers("1,x"), std::vector<std::uint32_t>{1});
  EXPECT_TRUE(parse_numbers("5-1,2").empty());
  EXPECT_TRUE(parse_numbers("0-4294967295").empty());  // no list of that length is made
  EXPECT_EQ(parse_numbers("4294967295"), std::vector<std::uint32_t>{4294967295});
}

}  // namespace
}  // namespace loam
