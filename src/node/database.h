// SQLite, one connection, used by the loop thread alone. All writes of one loop turn are one
// transaction (WAL, synchronous=FULL) that commit_turn() ends; what must not happen before it is
// durable (a reply, the start of a shim) waits in after_commit.
//
// A commit that fails (full disk) is fail-stop: waiting replies get the error, the node ends, and
// the next start finds the last consistent state.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "node/migrations.h"

namespace loam::node {

using Value = std::variant<std::nullptr_t, std::int64_t, std::string>;

class Row {
 public:
  std::int64_t integer(std::size_t column) const;     // 0 for NULL
  const std::string& text(std::size_t column) const;  // "" for NULL
  bool is_null(std::size_t column) const;
  Json json(std::size_t column) const;  // a column that we wrote as JSON; null for NULL
  std::vector<Value> values;
};

class Database {
 public:
  // Opens or makes it and runs the migrations that it has not seen, each in a transaction of its
  // own; an older database is first copied (database_copy.h). One of a newer format is refused with
  // the mend.
  static Result<std::unique_ptr<Database>> open(const std::string& path,
                                                const std::vector<Migration>& migrations);
  // The last commit of the database `from`, which others may have open, into the empty file `to`
  // (SQLite's manual, "VACUUM INTO"). See copy_database for a copy that is whole or not there.
  static Result<void> vacuum_into(const std::string& from, const std::string& to);
  ~Database();

  // Begins the turn's transaction where none is open. A statement that SQLite refuses is a bug
  // (assert), except full disk and I/O errors, which make the coming commit fail.
  void write(std::string_view sql, const std::vector<Value>& values = {});
  std::int64_t insert(std::string_view sql, const std::vector<Value>& values = {});  // last rowid
  std::vector<Row> query(std::string_view sql, const std::vector<Value>& values = {});

  void after_commit(std::function<void()> action);  // at once where the turn has written nothing
  Result<void> commit_turn();                       // then runs the actions, in order
  bool turn_open() const;

 private:
  Database();
  struct Impl;
  friend struct Opening;
  std::unique_ptr<Impl> impl_;
};

}  // namespace loam::node
