#include "boxes/project_folder.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/files.h"
#include "base/sha256.h"

namespace loam::boxes {
namespace {

using Type = ManifestEntry::Type;

class ProjectFolderTest : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/loam-folder-XXXXXX";
    top_ = ::mkdtemp(pattern);
    ASSERT_TRUE(make_folders(top_ + "/incoming"));
  }
  void TearDown() override { ASSERT_TRUE(remove_tree(top_)); }

  static ManifestEntry file(const std::string& path, const std::string& content,
                            std::uint32_t mode = 0644) {
    return {.type = Type::file,
            .path = path,
            .mode = mode,
            .size_bytes = content.size(),
            .digest = sha256_of(content).hex()};
  }
  static ManifestEntry folder(const std::string& path, std::uint32_t mode = 0755) {
    return {.type = Type::folder, .path = path, .mode = mode};
  }

  // A push of it, every wanted file with this content.
  std::vector<std::size_t> push(const Manifest& manifest, const std::string& content) {
    auto project = ProjectFolder::open(top_ + "/project");
    LOAM_ASSERT(project.has_value());
    const auto wanted = project->lacking(manifest);
    LOAM_ASSERT(wanted.has_value());
    for (const std::size_t number : *wanted)
      LOAM_ASSERT(
          write_file_atomic(top_ + "/incoming/" + std::to_string(number), content).has_value());
    const auto incoming = open_file(top_ + "/incoming", O_RDONLY | O_DIRECTORY);
    LOAM_ASSERT(incoming.has_value());
    const auto done = project->become(manifest, *wanted, *incoming);
    EXPECT_TRUE(done) << done.error().text;
    return *wanted;
  }
  std::string content(const std::string& path) {
    return read_file(top_ + "/project/" + path).value_or("(none)");
  }

  std::string top_;
};

TEST_F(ProjectFolderTest, BecomesWhatIsPushedWhateverItWas) {
  EXPECT_EQ(push({folder(""), folder("a", 0555), file("a/x", "one", 0755), file("b", "one")}, "one")
                .size(),
            2u);
  EXPECT_EQ(
      push({folder(""), folder("a", 0555), file("a/x", "one", 0644), file("b", "one")}, "").size(),
      0u);
  struct stat status {};
  ASSERT_EQ(::stat((top_ + "/project/a/x").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0644u);
  // A folder becomes a file, a file a folder, a link another; the rest goes.
  ASSERT_EQ(::symlink("/etc/passwd", (top_ + "/project/c").c_str()), 0);
  const Manifest next{folder(""),
                      file("a", "two"),
                      folder("b"),
                      file("b/y", "two"),
                      {.type = Type::symlink, .path = "c", .target = "b/y"}};
  EXPECT_EQ(push(next, "two"), (std::vector<std::size_t>{1, 3}));
  EXPECT_EQ(content("a") + content("b/y") + content("c"), "twotwotwo");
  EXPECT_TRUE(list_folder(top_ + "/project") && list_folder(top_ + "/project")->size() == 3);
}

TEST_F(ProjectFolderTest, FollowsNoLinkThatLiesInItsWay) {
  ASSERT_TRUE(make_folders(top_ + "/outside"));
  ASSERT_TRUE(write_file_atomic(top_ + "/outside/x", "untouched"));
  ASSERT_TRUE(make_folders(top_ + "/project"));
  ASSERT_EQ(::symlink("../outside", (top_ + "/project/a").c_str()), 0);
  EXPECT_EQ(push({folder(""), folder("a"), file("a/x", "new")}, "new").size(), 1u);
  EXPECT_EQ(content("a/x"), "new");
  EXPECT_EQ(read_file(top_ + "/outside/x").value_or(""), "untouched");
}

TEST_F(ProjectFolderTest, DataIsKnownAgainBySizeAndTime) {
  ManifestEntry data{.type = Type::file,
                     .path = "d",
                     .mode = 0644,
                     .size_bytes = 3,
                     .mtime_ns = 1'500'000'000'000'000'007};
  EXPECT_EQ(push({folder(""), data}, "one").size(), 1u);
  const timespec changed{1'500'000'000, 7};
  const timespec times[2] = {changed, changed};
  ASSERT_EQ(::utimensat(AT_FDCWD, (top_ + "/project/d").c_str(), times, 0), 0);
  EXPECT_EQ(push({folder(""), data}, "two").size(), 0u);
  data.mtime_ns += 1;
  EXPECT_EQ(push({folder(""), data}, "two").size(), 1u);
  EXPECT_EQ(content("d"), "two");
}

}  // namespace
}  // namespace loam::boxes
