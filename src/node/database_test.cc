#include "node/database.h"

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdlib>

#include "base/files.h"

namespace loam::node {
namespace {

const std::vector<Migration> kSchema = {
    {"a table",
     {"CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT, number INTEGER)"}}};

class DatabaseTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/loam-database-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    path_ = folder_ + "/node.db";
  }
  void TearDown() override { ASSERT_TRUE(remove_tree(folder_)); }
  std::unique_ptr<Database> open() {
    auto database = Database::open(path_, kSchema);
    EXPECT_TRUE(database) << (database ? "" : database.error().text);
    return database ? std::move(*database) : nullptr;
  }
  std::string folder_, path_;
};

TEST_F(DatabaseTest, KeepsWhatWasCommittedAndNothingElse) {
  {
    auto database = open();
    EXPECT_EQ(database->insert("INSERT INTO t (text, number) VALUES (?, ?)",
                               {std::string("a\0b", 3), nullptr}),
              1);
    ASSERT_TRUE(database->commit_turn());
    database->insert("INSERT INTO t (text, number) VALUES (?, ?)",
                     {"never committed", std::int64_t{2}});
  }
  auto database = open();
  const auto rows = database->query("SELECT id, text, number FROM t", {});
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].integer(0), 1);
  EXPECT_EQ(rows[0].text(1), std::string("a\0b", 3));
  EXPECT_TRUE(rows[0].is_null(2));
  EXPECT_EQ(rows[0].integer(2), 0);
}

TEST_F(DatabaseTest, ATurnSeesItsOwnWrites) {
  auto database = open();
  database->write("INSERT INTO t (text) VALUES (?)", {R"({"a":1})"});
  const auto rows = database->query("SELECT text FROM t", {});
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].json(0)["a"].as_int(), 1);
  ASSERT_TRUE(database->commit_turn());
}

TEST_F(DatabaseTest, ActionsWaitForTheCommitInOrder) {
  auto database = open();
  std::string trail;
  database->after_commit([&] { trail += "1"; });  // nothing written: at once
  EXPECT_EQ(trail, "1");
  database->write("INSERT INTO t (text) VALUES (?)", {"x"});
  EXPECT_TRUE(database->turn_open());
  database->after_commit([&] {
    trail += "2";
    database->write("INSERT INTO t (text) VALUES (?)", {"y"});
    database->after_commit([&] { trail += "4"; });
  });
  database->after_commit([&] { trail += "3"; });
  EXPECT_EQ(trail, "1");
  ASSERT_TRUE(database->commit_turn());
  EXPECT_FALSE(database->turn_open());
  EXPECT_EQ(trail, "1234");
  EXPECT_EQ(database->query("SELECT count(*) FROM t", {})[0].integer(0), 2);
}

TEST_F(DatabaseTest, RefusesANewerFormatWithTheMend) {
  open();
  sqlite3* raw = nullptr;
  ASSERT_EQ(sqlite3_open(path_.c_str(), &raw), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(raw, "PRAGMA user_version=999", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(raw);
  const auto database = Database::open(path_, kSchema);
  ASSERT_FALSE(database);
  EXPECT_NE(database.error().text.find("newer Loam (format 999"), std::string::npos)
      << database.error().text;
}

TEST_F(DatabaseTest, RefusesBytesThatAreNoDatabase) {
  ASSERT_TRUE(write_file_atomic(path_, std::string(8192, 'x')));
  const auto database = Database::open(path_, kSchema);
  ASSERT_FALSE(database);
  EXPECT_EQ(database.error().code, ErrorCode::corrupt) << database.error().text;
}

TEST_F(DatabaseTest, AFullDiskFailsTheCommitAndRunsNoAction) {
  const std::string small = folder_ + "/small";
  ASSERT_TRUE(make_folders(small));
  ASSERT_EQ(::mount("loam-test", small.c_str(), "tmpfs", 0, "size=512k"), 0) << "needs root";
  {
    auto database = Database::open(small + "/node.db", kSchema);
    ASSERT_TRUE(database);
    (*database)->insert("INSERT INTO t (text) VALUES (?)", {"kept"});
    ASSERT_TRUE((*database)->commit_turn());
    bool acted = false;
    for (int i = 0; i < 20; ++i)
      (*database)->write("INSERT INTO t (text) VALUES (?)", {std::string(100'000, 'x')});
    (*database)->after_commit([&] { acted = true; });
    const auto committed = (*database)->commit_turn();
    ASSERT_FALSE(committed);
    EXPECT_EQ(committed.error().code, ErrorCode::full) << committed.error().text;
    EXPECT_FALSE(acted);
  }
  {
    // The next start finds the last consistent state.
    auto database = Database::open(small + "/node.db", kSchema);
    EXPECT_TRUE(database) << database.error().text;
    if (database) {
      EXPECT_EQ((*database)->query("SELECT text FROM t", {}).size(), 1U);
    }
  }
  EXPECT_EQ(::umount(small.c_str()), 0);
}

TEST_F(DatabaseTest, AStatementThatSqliteRefusesIsABug) {
  auto database = open();
  EXPECT_DEATH(database->write("INSERT INTO nowhere VALUES (1)"), "");
}

}  // namespace
}  // namespace loam::node
