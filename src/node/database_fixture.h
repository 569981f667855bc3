// For the tests of what the node keeps: a database of today's format in a folder of its own.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <memory>
#include <string>

#include "base/files.h"
#include "node/database.h"
#include "node/migrations.h"

namespace loam::node {

class DatabaseTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/loam-database-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    open();
  }
  void TearDown() override {
    database_.reset();
    ASSERT_TRUE(remove_tree(folder_));
  }
  // Also again, as the next node would.
  void open() {
    database_.reset();
    auto opened = Database::open(folder_ + "/node.db", migrations());
    ASSERT_TRUE(opened) << opened.error().text;
    database_ = std::move(*opened);
  }

  std::string folder_;
  std::unique_ptr<Database> database_;
};

}  // namespace loam::node
