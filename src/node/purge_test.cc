#include "node/purge.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/files.h"

namespace loam::node {
namespace {

TEST(RemoveDeviceLocks, KeepsWhatSomebodyHolds) {
  char name[] = "/tmp/loam-locks-XXXXXX";
  ASSERT_NE(::mkdtemp(name), nullptr);
  const std::string folder = name;
  for (const char* file : {"/held", "/free"})
    ASSERT_TRUE(write_file_atomic(folder + file, "attempt 7"));
  auto held = open_file(folder + "/held", O_RDWR);
  ASSERT_TRUE(held);
  ASSERT_EQ(::flock(held->get(), LOCK_EX), 0);
  EXPECT_FALSE(remove_device_locks(folder).value());
  EXPECT_EQ(list_folder(folder).value(), std::vector<std::string>{"held"});
  held->reset();
  EXPECT_TRUE(remove_device_locks(folder).value());
  EXPECT_FALSE(path_exists(folder));
  EXPECT_FALSE(remove_device_locks(folder).value()) << "what is gone is gone";
}

}  // namespace
}  // namespace loam::node
