#include "node/findings.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/files.h"

namespace loam::node {
namespace {

class Folder : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/loam-findings-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    path_ = name;
  }
  void TearDown() override { ASSERT_TRUE(remove_tree(path_)); }
  std::string path_;
};

TEST(ErrorLine, OfOneRankOfAGang) {
  const std::string output =
      "[0] epoch 1\n[1] ValueError: mine\n[0] RuntimeError: peer is gone\n[1] bye\n[10] no\n";
  EXPECT_EQ(lines_of_rank(output, 1), "ValueError: mine\nbye\n");
  EXPECT_EQ(error_line(lines_of_rank(output, 1)), "ValueError: mine");
  EXPECT_EQ(lines_of_rank(output, 2), "");
}

TEST(ErrorLine, TheLastThatNamesAnErrorElseTheLast) {
  EXPECT_EQ(error_line("fine\nValueError: bad\nbye\n"), "ValueError: bad");
  EXPECT_EQ(error_line("KeyError: 1\n\nDuring that:\n  OSError: 2\n"), "OSError: 2");
  EXPECT_EQ(error_line("one\ntwo\n\n  \n"), "two");
  EXPECT_EQ(error_line(""), "");
  EXPECT_EQ(error_line("progress 1\rprogress 2"), "progress 2");
}

TEST(ErrorLine, IsPrintableAndShort) {
  EXPECT_EQ(error_line("error: \x1b[31mred").find('\x1b'), std::string::npos);
  EXPECT_LE(error_line("error: " + std::string(100'000, 'x')).size(), kErrorLineBytesMax);
}

TEST(Metrics, CountAndLastOfEach) {
  const Json summary = summarize_metrics(
      "{\"loss\":0.5,\"epoch\":1}\n{\"loss\":0.25}\nnot json\n[1]\n{\"name\":\"x\"}\n");
  EXPECT_EQ(summary["loss"]["count"].as_int(), 2);
  EXPECT_EQ(summary["loss"]["last"].as_double(), 0.25);
  EXPECT_EQ(summary["epoch"]["count"].as_int(), 1);
  EXPECT_FALSE(summary.has("name"));
}

TEST(Metrics, NamesAreBounded) {
  std::string line = "{";
  for (int i = 0; i < 5000; ++i) line += (i ? ",\"m" : "\"m") + std::to_string(i) + "\":1";
  EXPECT_EQ(summarize_metrics(line + "}").size(), kMetricNamesMax);
}

TEST_F(Folder, ForeignFilesAreRegularAndNoLinks) {
  ASSERT_TRUE(write_file_atomic(path_ + "/plain", "x"));
  ASSERT_EQ(::symlink("/etc/passwd", (path_ + "/link").c_str()), 0);
  ASSERT_EQ(::mkfifo((path_ + "/pipe").c_str(), 0600), 0);
  EXPECT_EQ(*read_foreign(path_, "plain", 10), "x");
  EXPECT_FALSE(read_foreign(path_, "link", 1000));
  EXPECT_FALSE(read_foreign(path_, "pipe", 1000));
  EXPECT_FALSE(read_foreign(path_, "../../etc/passwd", 1 << 20));
  ASSERT_TRUE(write_file_atomic(path_ + "/long", std::string(100, 'x')));
  EXPECT_EQ(read_foreign(path_, "long", 10).error().code, ErrorCode::too_large);
}

TEST_F(Folder, BytesBelowAFolder) {
  EXPECT_TRUE(folder_empty(path_));
  ASSERT_TRUE(make_folders(path_ + "/a/b"));
  ASSERT_TRUE(write_file_atomic(path_ + "/a/b/c", std::string(1 << 20, 'x')));
  ASSERT_EQ(::symlink("/usr", (path_ + "/usr").c_str()), 0);
  EXPECT_FALSE(folder_empty(path_));
  const auto bytes = folder_bytes(path_, 1u << 30);
  EXPECT_GE(bytes, 1u << 20);
  EXPECT_LT(bytes, 2u << 20);  // the link was not followed
  EXPECT_GT(folder_bytes(path_, 1000), 1000u);
}

}  // namespace
}  // namespace loam::node
