#include "node/log_reader.h"

#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/stat.h>

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

// As the shim does it: "before" is all output that has rotated away before the file.
TEST_F(LogReaderTest, APlaceIsFoundAgainAcrossRotations) {
  const auto write_start = [&](const std::string& file, std::uint64_t before) {
    struct stat status {};
    ASSERT_EQ(::stat((folder_ + "/" + file).c_str(), &status), 0);
    std::ofstream(folder_ + "/start") << status.st_ino << " " << before << "\n";
  };
  const auto from = [&](std::uint64_t offset) {
    LogReader reader(folder_);
    EXPECT_TRUE(reader.seek(offset));
    const std::uint64_t begins = reader.position();
    const std::string text = all(reader);
    EXPECT_EQ(reader.position(), begins + text.size());
    return std::to_string(begins) + ":" + text;
  };
  EXPECT_EQ(from(0), "0:");
  append("0123");
  EXPECT_EQ(from(0), "0:0123");
  EXPECT_EQ(from(3), "3:3");
  EXPECT_EQ(from(4), "4:");
  rotate();
  EXPECT_EQ(from(2), "2:23") << "neither the next file nor the first note are there yet";
  append("4567");
  EXPECT_EQ(from(2), "2:234567") << "the note is not there yet";
  write_start("current.log", 4);
  EXPECT_EQ(from(2), "2:234567");
  EXPECT_EQ(from(4), "4:4567");
  EXPECT_EQ(from(6), "6:67");
  rotate();
  append("89");
  EXPECT_EQ(from(6), "6:6789") << "the note is that of the file before";
  write_start("current.log", 8);
  EXPECT_EQ(from(6), "6:6789");
  EXPECT_EQ(from(1), "4:456789") << "the oldest byte that is kept";
  EXPECT_EQ(from(99), "10:");
}

TEST_F(LogReaderTest, ATailSaysWhereItBegins) {
  append("a\nb\nc\n");
  LogReader reader(folder_);
  ASSERT_TRUE(reader.seek_tail(1));
  EXPECT_EQ(reader.position(), 4u);
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
