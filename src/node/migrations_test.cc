// Databases of older formats: brought up, with a copy kept, killed in between; newer ones refused.
#include "node/migrations.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "base/files.h"
#include "base/process.h"
#include "node/database.h"
#include "node/database_copy.h"
#include "node/models.h"
#include "node/run_tables.h"

namespace loam::node {
namespace {

// Formats 1 to 4 of an imaginary table; the first has one row.
const std::vector<Migration> kFour = {
    {"first", {"CREATE TABLE t(a TEXT)", "INSERT INTO t VALUES('old')"}},
    {"a column", {"ALTER TABLE t ADD COLUMN b INTEGER", "UPDATE t SET b = 7"}},
    {"a table", {"CREATE TABLE u(x INTEGER)", "INSERT INTO u SELECT b FROM t"}},
    {"an index", {"CREATE INDEX t_a ON t(a)"}},
};

std::vector<Migration> first(std::size_t count) {
  return {kFour.begin(), kFour.begin() + static_cast<std::ptrdiff_t>(count)};
}

std::int64_t number_in(const std::string& path, const std::string& sql) {
  sqlite3* raw = nullptr;
  EXPECT_EQ(sqlite3_open_v2(path.c_str(), &raw, SQLITE_OPEN_READWRITE, nullptr), SQLITE_OK) << path;
  sqlite3_stmt* statement = nullptr;
  EXPECT_EQ(sqlite3_prepare_v2(raw, sql.c_str(), -1, &statement, nullptr), SQLITE_OK)
      << sqlite3_errmsg(raw);
  std::int64_t number = -1;
  if (sqlite3_step(statement) == SQLITE_ROW) number = sqlite3_column_int64(statement, 0);
  sqlite3_finalize(statement);
  sqlite3_close(raw);
  return number;
}

std::int64_t format_of(const std::string& path) { return number_in(path, "PRAGMA user_version"); }

class MigrationsTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/loam-migrations-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    path_ = folder_ + "/node.db";
  }
  void TearDown() override { ASSERT_TRUE(remove_tree(folder_)); }
  void make(std::size_t format) {
    const auto made = Database::open(path_, first(format));
    ASSERT_TRUE(made) << made.error().text;
  }
  std::vector<std::string> files() { return list_folder(folder_).value(); }
  std::vector<std::string> copies() {
    std::vector<std::string> found;
    for (const std::string& name : files())
      if (name.find(".format-") != std::string::npos) found.push_back(name);
    return found;
  }
  std::string folder_, path_;
};

TEST_F(MigrationsTest, BringsAnOldDatabaseUpAndKeepsItAsItWas) {
  make(1);
  auto database = Database::open(path_, kFour);
  ASSERT_TRUE(database) << database.error().text;
  EXPECT_EQ((*database)->query("SELECT x FROM u")[0].integer(0), 7);
  EXPECT_EQ(format_of(path_), 4);
  const std::string copy = path_ + ".format-1";
  EXPECT_EQ(copies(), std::vector<std::string>{"node.db.format-1"});
  EXPECT_EQ(format_of(copy), 1);
  EXPECT_EQ(number_in(copy, "SELECT count(*) FROM t WHERE a = 'old'"), 1);
  struct stat status {};
  ASSERT_EQ(::stat(copy.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
}

TEST_F(MigrationsTest, ANewDatabaseAndACurrentOneAreNotCopied) {
  make(4);
  make(4);
  EXPECT_EQ(copies(), std::vector<std::string>{});
}

TEST_F(MigrationsTest, CopiesAreBounded) {
  for (std::size_t format = 1; format <= 4; ++format) make(format);
  EXPECT_EQ(copies().size(), 3U);
  std::vector<Migration> longer = kFour;
  longer.push_back({"one more", {"CREATE TABLE v(x INTEGER)"}});
  ASSERT_TRUE(Database::open(path_, longer));
  EXPECT_EQ(copies(),
            (std::vector<std::string>{"node.db.format-2", "node.db.format-3", "node.db.format-4"}));
}

TEST_F(MigrationsTest, AMigrationThatFailsLeavesTheOldFormat) {
  make(1);
  std::vector<Migration> broken = first(2);
  broken.push_back({"half", {"CREATE TABLE u(x INTEGER)", "INSERT INTO nowhere VALUES(1)"}});
  const auto refused = Database::open(path_, broken);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text.find("format 3 (half)"), std::string::npos)
      << refused.error().text;
  EXPECT_EQ(format_of(path_), 2);
  EXPECT_EQ(number_in(path_, "SELECT count(*) FROM sqlite_master WHERE name = 'u'"), 0);
  ASSERT_TRUE(Database::open(path_, kFour));
}

TEST_F(MigrationsTest, ANewerDatabaseIsRefusedUntouchedWithTheMend) {
  make(4);
  auto refused = Database::open(path_, first(2));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text.find("point LOAM_STATE_DIR elsewhere"), std::string::npos)
      << refused.error().text;
  EXPECT_EQ(format_of(path_), 4);
  // The program of before finds the copy that its successor kept for it.
  ASSERT_TRUE(remove_tree(path_));
  make(2);
  make(4);
  refused = Database::open(path_, first(2));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text.find("put back " + path_ + ".format-2"), std::string::npos)
      << refused.error().text;
}

TEST_F(MigrationsTest, AFullDiskLeavesTheOldDatabaseAndNoHalfCopy) {
  const std::string small = folder_ + "/small";
  ASSERT_TRUE(make_folders(small));
  ASSERT_EQ(::mount("loam-test", small.c_str(), "tmpfs", 0, "size=512k"), 0) << "needs root";
  path_ = small + "/node.db";
  make(1);
  {
    auto database = Database::open(path_, first(1));
    ASSERT_TRUE(database);
    (*database)->write("INSERT INTO t VALUES(?)", {std::string(150'000, 'x')});
    ASSERT_TRUE((*database)->commit_turn());
  }
  ASSERT_TRUE(write_file_atomic(small + "/ballast", std::string(250'000, 'x')));
  const auto refused = Database::open(path_, kFour);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::full) << refused.error().text;
  EXPECT_EQ(list_folder(small).value(), (std::vector<std::string>{"ballast", "node.db"}));
  EXPECT_EQ(format_of(path_), 1);
  EXPECT_EQ(::umount(small.c_str()), 0);
}

// The child of the next test: opens what the variable names, and is killed on the way.
TEST(MigrationsChild, DISABLED_OpensTheDatabaseOfTheVariable) {
  ASSERT_TRUE(Database::open(std::getenv("LOAM_TEST_DATABASE"), kFour));
}

TEST_F(MigrationsTest, KilledAnywhereItIsOldOrNew) {
  struct Case {
    const char* point;
    std::int64_t format;
  };
  for (const Case& one :
       {Case{"node.database_copied", 1}, Case{"node.migration_written", 1},
        Case{"node.migration_committed", 2}, Case{"node.migration_written:2", 2},
        Case{"node.migration_written:3", 3}, Case{"node.migration_committed:3", 4}}) {
    SCOPED_TRACE(one.point);
    make(1);
    SpawnOptions child;
    child.argv = {"/proc/self/exe", "--gtest_also_run_disabled_tests",
                  "--gtest_filter=MigrationsChild.*"};
    child.environment = {"LOAM_TEST_DATABASE=" + path_, std::string("LOAM_CRASH_AT=") + one.point};
    const auto output = run_collect(child);
    ASSERT_TRUE(output) << output.error().text;
    ASSERT_TRUE(WIFSIGNALED(output->status) && WTERMSIG(output->status) == SIGKILL)
        << output->standard_output;
    EXPECT_EQ(format_of(path_), one.format);
    EXPECT_EQ(format_of(path_ + ".format-1"), 1);
    auto database = Database::open(path_, kFour);
    ASSERT_TRUE(database) << database.error().text;
    EXPECT_EQ((*database)->query("SELECT x FROM u").size(), 1U);
    EXPECT_EQ((*database)->query("PRAGMA integrity_check")[0].text(0), "ok");
    database->reset();
    for (const std::string& name : files())
      ASSERT_TRUE(remove_tree(folder_ + "/" + name));
  }
}

// As `loam up` of the first format left it: a model served, a step failed.
TEST_F(MigrationsTest, TheFirstFormatBecomesTheNewest) {
  const auto dump = read_file(std::string(LOAM_SOURCE_DIR) + "/tests/corpus/database/format-1.sql");
  ASSERT_TRUE(dump) << dump.error().text;
  sqlite3* raw = nullptr;
  ASSERT_EQ(sqlite3_open(path_.c_str(), &raw), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(raw, dump->c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
      << sqlite3_errmsg(raw);
  sqlite3_close(raw);
  auto old = Database::open(path_, migrations());
  ASSERT_TRUE(old) << old.error().text;
  RunTables tables(**old);
  ASSERT_EQ(tables.runs("1 ORDER BY id").size(), 2U);
  const auto jobs = tables.jobs("1 ORDER BY id");
  ASSERT_EQ(jobs.size(), 4U);
  EXPECT_EQ(jobs[0].name, "train");
  EXPECT_EQ(jobs[0].memory_bytes, 512 << 20);
  EXPECT_EQ(jobs[3].state, "failed");
  tables.save(jobs[3]);
  ASSERT_TRUE((*old)->commit_turn());
  EXPECT_EQ(Models(**old).all(0).size(), 1U);

  // Whoever changes an entry that has landed makes two kinds of databases: both must be one.
  auto fresh = Database::open(folder_ + "/fresh.db", migrations());
  ASSERT_TRUE(fresh) << fresh.error().text;
  const char* const columns =
      "SELECT m.name || ' ' || p.name || ' ' || p.type || ' ' || p.\"notnull\" || ' ' || p.pk "
      "FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type = 'table' ORDER BY 1";
  const char* const indexes = "SELECT name FROM sqlite_master WHERE type = 'index' ORDER BY 1";
  for (const char* sql : {columns, indexes}) {
    const auto of_old = (*old)->query(sql), of_fresh = (*fresh)->query(sql);
    ASSERT_EQ(of_old.size(), of_fresh.size());
    for (std::size_t i = 0; i < of_old.size(); ++i)
      EXPECT_EQ(of_old[i].text(0), of_fresh[i].text(0));
  }
}

}  // namespace
}  // namespace loam::node
