#include "store/owners.h"

#include <gtest/gtest.h>

namespace loam::store {
namespace {

TEST(Owners, OnlyASingleIdOtherThanZeroIsAlone) {
  EXPECT_TRUE(owners_for("      1000       1000          1\n", 1000, 1000).alone);
  EXPECT_FALSE(owners_for("         0          0 4294967295\n", 0, 0).alone);
  EXPECT_FALSE(owners_for("         0       1000          1\n", 0, 0).alone);
  EXPECT_FALSE(owners_for("0 100000 1000\n1000 1000 1\n", 0, 0).alone);
  EXPECT_FALSE(owners_for("", 0, 0).alone);
  const Owners owners{.alone = true, .uid = 1000, .gid = 100};
  EXPECT_EQ(owners.uid_on_disk(0), 1000u);
  EXPECT_EQ(owners.gid_on_disk(0), 100u);
  EXPECT_EQ(owners.recorded_uid(1000), 0u);
  EXPECT_EQ(owners.recorded_gid(100), 0u);
  EXPECT_EQ(owners.recorded_uid(7), 7u);
  EXPECT_EQ(Owners{}.uid_on_disk(0), 0u);
}

}  // namespace
}  // namespace loam::store
