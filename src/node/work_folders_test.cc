#include "node/work_folders.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/files.h"

namespace loam::node {
namespace {

TEST(WorkFolders, LeftoversOfAnUnrecordedAttemptGo) {
  char name[] = "/tmp/loam-work-XXXXXX";
  ASSERT_NE(::mkdtemp(name), nullptr);
  const std::string work = std::string(name) + "/5-1";
  ASSERT_TRUE(make_work_folders(work, ::getuid(), ::getgid()));
  ASSERT_TRUE(write_file_atomic(work + "/output/half", "x"));
  ASSERT_TRUE(make_work_folders(work, ::getuid(), ::getgid()));
  EXPECT_FALSE(path_exists(work + "/output/half"));
  struct stat status {};
  ASSERT_EQ(::stat((work + "/output").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
  ASSERT_TRUE(remove_tree(name));
}

}  // namespace
}  // namespace loam::node
