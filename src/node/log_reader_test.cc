#include "node/log_reader.h"

#include <gtest/gtest.h>
#include <stdio.h>

#include <cstdlib>
#include <fstream>

#include "base/files.h"

namespace loam::node {
namespace {

class LogReaderTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/loam-log-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { ASSERT_TRUE(remove_tree(folder_)); }
  void append(const std::string& text) {
    std::ofstream(folder_ + "/current.log", std::ios::app) << text;
  }
  void rotate() {
    ASSERT_EQ(::rename((folder_ + "/current.log").c_str(), (folder_ + "/previous.log").c_str()), 0);
  }
  static std::string all(LogReader& reader, std::size_t step = 7) {
    std::string text;
    for (;;) {
      const auto part = reader.read(step);
      EXPECT_TRUE(part);
      if (!part || part->empty()) return text;
      text += *part;
    }
  }
  std::string tail(std::uint64_t lines) {
    LogReader reader(folder_);
    EXPECT_TRUE(reader.seek_tail(lines));
    return all(reader);
  }
  std::string folder_;
};

TEST_F(LogReaderTest, NothingYetThenWhatComes) {
  LogReader reader(folder_);
  EXPECT_EQ(all(reader), "");
  append("one\n");
  EXPECT_EQ(all(reader), "one\n");
  append("two\n");
  EXPECT_EQ(all(reader), "two\n");
}

TEST_F(LogReaderTest, FollowsThroughARotationWithoutLosingTheLastBytes) {
  LogReader reader(folder_);
  append("one\n");
  EXPECT_EQ(all(reader), "one\n");
  append("late\n");  // between the reader's last look and the rotation
  rotate();
  append("two\n");
  EXPECT_EQ(all(reader), "late\ntwo\n");
}

TEST_F(LogReaderTest, ARotationBeforeTheNewFileExists) {
  LogReader reader(folder_);
  append("one\n");
  EXPECT_EQ(all(reader), "one\n");
  rotate();
  EXPECT_EQ(all(reader), "");
  append("two\n");
  EXPECT_EQ(all(reader), "two\n");
}

TEST_F(LogReaderTest, AReaderSlowerThanTwoRotationsGoesOnWithWhatIsKept) {
  LogReader reader(folder_);
  append("one\n");
  EXPECT_EQ(all(reader), "one\n");
  rotate();
  append("two\n");
  rotate();
  append("three\n");
  rotate();
  append("four\n");
  EXPECT_EQ(all(reader), "three\nfour\n");
}

TEST_F(LogReaderTest, TailCountsLinesOverBothFiles) {
  append("a\nb\n");
  rotate();
  append("c\nd");
  EXPECT_EQ(tail(0), "");
  EXPECT_EQ(tail(1), "d");
  EXPECT_EQ(tail(2), "c\nd");
  EXPECT_EQ(tail(3), "b\nc\nd");
  EXPECT_EQ(tail(99), "a\nb\nc\nd");
}

TEST_F(LogReaderTest, TailOverManyBlocks) {
  std::string text;
  for (int i = 0; i < 50'000; ++i) text += "line " + std::to_string(i) + "\n";
  append(text);
  const std::string last = tail(40'000);
  EXPECT_TRUE(last.starts_with("line 10000\n"));
  EXPECT_TRUE(last.ends_with("line 49999\n"));
}

}  // namespace
}  // namespace loam::node
