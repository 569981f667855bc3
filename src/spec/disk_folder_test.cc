#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/files.h"
#include "spec/project.h"

namespace loam::spec {
namespace {

class DiskFolderTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/loam-spec-test-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    root_ = name;
    project_ = root_ + "/project";
    write("project/train.py", "x");
    write("project/data/deep/er/a.csv", "x");
    write("project/data/.hidden", "x");
    write("outside.csv", "x");
    ASSERT_EQ(symlink("../outside.csv", (project_ + "/link.csv").c_str()), 0);
    ASSERT_EQ(symlink("train.py", (project_ + "/inside.py").c_str()), 0);
    ASSERT_EQ(symlink("/tmp", (project_ + "/elsewhere").c_str()), 0);
    ASSERT_EQ(mkfifo((project_ + "/pipe.csv").c_str(), 0600), 0);
  }
  void TearDown() override { ASSERT_TRUE(remove_tree(root_)); }

  void write(const std::string& path, const std::string& content) {
    const std::string whole = root_ + "/" + path;
    ASSERT_TRUE(make_folders(whole.substr(0, whole.rfind('/'))));
    ASSERT_TRUE(write_file_atomic(whole, content, {.durable = false}));
  }

  std::string root_;
  std::string project_;
};

TEST_F(DiskFolderTest, FindsRegularFilesOfTheProjectOnly) {
  const DiskFolder folder(project_);
  EXPECT_TRUE(folder.has_file("train.py"));
  EXPECT_TRUE(folder.has_file("data/deep/er/a.csv"));
  EXPECT_TRUE(folder.has_file("inside.py"));
  EXPECT_FALSE(folder.has_file("absent.py"));
  EXPECT_FALSE(folder.has_file("data"));
  EXPECT_FALSE(folder.has_file("pipe.csv"));
  EXPECT_FALSE(folder.has_file("link.csv")) << "it leads out of the project";
  EXPECT_FALSE(folder.has_file("../outside.csv"));
  EXPECT_FALSE(DiskFolder(root_ + "/nowhere").has_file("train.py"));
}

TEST_F(DiskFolderTest, FindsMatches) {
  const DiskFolder folder(project_);
  EXPECT_TRUE(folder.has_match("train.py"));
  EXPECT_TRUE(folder.has_match("*.py"));
  EXPECT_TRUE(folder.has_match("data/**"));
  EXPECT_TRUE(folder.has_match("**/a.csv"));
  EXPECT_TRUE(folder.has_match("data/*/er/[a-c].csv"));
  EXPECT_TRUE(folder.has_match("data/.h*"));
  EXPECT_FALSE(folder.has_match("*.csv")) << "a link that leads out, and a pipe";
  EXPECT_FALSE(folder.has_match("data"));
  EXPECT_FALSE(folder.has_match("data/*.csv"));
  EXPECT_FALSE(folder.has_match("absent/**"));
  EXPECT_FALSE(folder.has_match("elsewhere/**"));
}

TEST_F(DiskFolderTest, NamesTheFilesBesideOne) {
  const DiskFolder folder(project_);
  auto beside = folder.files_beside("absent.py");
  std::sort(beside.begin(), beside.end());
  EXPECT_EQ(beside, (std::vector<std::string>{"inside.py", "train.py"}));
  EXPECT_EQ(folder.files_beside("data/deep/er/x.py"), std::vector<std::string>{"a.csv"});
  EXPECT_TRUE(folder.files_beside("elsewhere/x.py").empty());
  EXPECT_TRUE(folder.files_beside("absent/x.py").empty());
  EXPECT_TRUE(DiskFolder(root_ + "/nowhere").files_beside("x.py").empty());
}

TEST_F(DiskFolderTest, DataFilesOfTheTopFolderAreCounted) {
  for (std::size_t i = 0; i <= kTopDataFilesMax; ++i) {
    write("project/part-" + std::to_string(i) + ".bin", "x");
    write("project/parts/" + std::to_string(i) + ".bin", "x");
  }
  const DiskFolder folder(project_);
  EXPECT_EQ(folder.matches("part-*.bin", 10), 10u);
  EXPECT_EQ(folder.matches("part-*.bin", 1000), kTopDataFilesMax + 1);
  const auto problems = [&](const std::string& pattern) {
    return format_problems("f", read_project("name: n\ndata: {d: '" + pattern + "'}\nsteps: {a: {run: 'true'}}\n", &folder).problems);
  };
  EXPECT_EQ(problems("part-*.bin"),
            "f:2:11: data.d: 'part-*.bin' matches more than 256 files from the project's top folder on; move them into "
            "a folder and write 'FOLDER/**'\n");
  EXPECT_EQ(problems("part-1*.bin"), "");
  EXPECT_EQ(problems("parts/**"), "");
}

TEST_F(DiskFolderTest, ReadsFilesOfTheProjectOnly) {
  const DiskFolder folder(project_);
  EXPECT_EQ(folder.read("train.py").value_or(""), "x");
  EXPECT_FALSE(folder.read("link.csv"));
  EXPECT_FALSE(folder.read("pipe.csv"));  // and does not wait for a writer
  EXPECT_FALSE(folder.read("data"));
  write("project/big.txt", std::string(kFileBytesMax + 1, 'x'));
  EXPECT_FALSE(folder.read("big.txt"));
}

}  // namespace
}  // namespace loam::spec
