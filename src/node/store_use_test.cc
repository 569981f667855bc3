#include "node/store_use.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/files.h"
#include "node/migrations.h"

namespace loam::node {
namespace {

TEST(StoreUse, WhatCameDuringACollectionIsAddedToWhatItCounted) {
  char folder[] = "/tmp/loam-store-use-XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  auto database = Database::open(std::string(folder) + "/node.db", migrations());
  ASSERT_TRUE(database) << database.error().text;
  StoreUse use(**database);
  EXPECT_EQ(use.bytes(1000), 0);
  use.add(1000, 70);
  use.add(1000, 30);
  use.add(1001, 5);
  const BytesByUser before = use.all();
  EXPECT_EQ(before, (BytesByUser{{1000, 100}, {1001, 5}}));
  use.add(1000, 7);
  use.add(1002, 9);
  use.replace({{1000, 40}, {1003, 60}}, before);
  EXPECT_EQ(use.all(), (BytesByUser{{1000, 47}, {1002, 9}, {1003, 60}}));
  ASSERT_TRUE((*database)->commit_turn());
  EXPECT_EQ(use.bytes(1000), 47);
  ASSERT_TRUE(remove_tree(folder));
}

}  // namespace
}  // namespace loam::node
