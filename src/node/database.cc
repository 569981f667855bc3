#include "node/database.h"

#include <sqlite3.h>
#include <sys/stat.h>

#include <cerrno>
#include <optional>
#include <unordered_map>

#include "base/crash_point.h"
#include "base/files.h"
#include "base/log.h"
#include "node/database_copy.h"

namespace loam::node {
namespace {

constexpr std::size_t kStatementsMax = 512;

struct CloseDatabase {
  void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
};
struct FinalizeStatement {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Handle = std::unique_ptr<sqlite3, CloseDatabase>;
using Statement = std::unique_ptr<sqlite3_stmt, FinalizeStatement>;

ErrorCode code_of(int sqlite_code) {
  switch (sqlite_code & 0xff) {
    case SQLITE_FULL:
      return ErrorCode::full;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return ErrorCode::corrupt;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return ErrorCode::busy;
    default:
      return ErrorCode::io;
  }
}

// The disk's fault or another process's, not ours: fails the turn's commit. Everything else is a
// bug in a statement.
bool outside_fault(int sqlite_code) {
  switch (sqlite_code & 0xff) {
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_BUSY:
    case SQLITE_PROTOCOL:
      return true;
    default:
      return false;
  }
}

void bind(sqlite3_stmt* statement, const std::vector<Value>& values) {
  LOAM_ASSERT(sqlite3_bind_parameter_count(statement) == static_cast<int>(values.size()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const int place = static_cast<int>(i) + 1;
    if (const auto* number = std::get_if<std::int64_t>(&values[i]))
      sqlite3_bind_int64(statement, place, *number);
    else if (const auto* text = std::get_if<std::string>(&values[i]))
      // Static: the values outlive the statement's run.
      sqlite3_bind_text64(statement, place, text->data(), text->size(), SQLITE_STATIC, SQLITE_UTF8);
    else
      sqlite3_bind_null(statement, place);
  }
}

Value column(sqlite3_stmt* statement, int place) {
  switch (sqlite3_column_type(statement, place)) {
    case SQLITE_NULL:
      return nullptr;
    case SQLITE_INTEGER:
      return std::int64_t{sqlite3_column_int64(statement, place)};
    default: {
      const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(statement, place));
      return std::string(bytes, static_cast<std::size_t>(sqlite3_column_bytes(statement, place)));
    }
  }
}

}  // namespace

std::int64_t Row::integer(std::size_t place) const {
  const auto* number = std::get_if<std::int64_t>(&values.at(place));
  return number != nullptr ? *number : 0;
}

const std::string& Row::text(std::size_t place) const {
  static const std::string kEmpty;
  const auto* text = std::get_if<std::string>(&values.at(place));
  return text != nullptr ? *text : kEmpty;
}

bool Row::is_null(std::size_t place) const {
  return std::holds_alternative<std::nullptr_t>(values.at(place));
}

Json Row::json(std::size_t place) const {
  if (is_null(place)) return nullptr;
  auto document = Json::parse(text(place));
  return document ? std::move(*document) : Json();
}

struct Database::Impl {
  Handle handle;
  // Looked up by text, never iterated: order does not matter.
  std::unordered_map<std::string, Statement> statements;
  std::vector<std::function<void()>> actions;
  bool open = false;
  std::optional<Error> failed;

  Error error(int code, std::string_view where) const {
    return {code_of(code), "database: " + std::string(where) + ": " + sqlite3_errmsg(handle.get())};
  }
  void note_failure(int code, std::string_view sql) {
    if (!outside_fault(code)) {
      log_error(error(code, sql).text);
      LOAM_ASSERT(false && "a statement that SQLite refuses");
    }
    if (!failed) failed = error(code, "writing");
  }

  Statement prepare(std::string_view sql) {
    sqlite3_stmt* raw = nullptr;
    const int code = sqlite3_prepare_v3(handle.get(), sql.data(), static_cast<int>(sql.size()),
                                        SQLITE_PREPARE_PERSISTENT, &raw, nullptr);
    if (code != SQLITE_OK) note_failure(code, sql);
    return Statement(raw);
  }
  // nullptr after a fault of the disk.
  sqlite3_stmt* statement(std::string_view sql) {
    if (const auto found = statements.find(std::string(sql)); found != statements.end())
      return found->second.get();
    if (statements.size() >= kStatementsMax) statements.clear();
    Statement made = prepare(sql);
    if (!made) return nullptr;
    return statements.emplace(std::string(sql), std::move(made)).first->second.get();
  }

  std::vector<Row> run(std::string_view sql, const std::vector<Value>& values) {
    std::vector<Row> rows;
    sqlite3_stmt* prepared = statement(sql);
    if (prepared == nullptr) return rows;
    bind(prepared, values);
    int code = sqlite3_step(prepared);
    for (; code == SQLITE_ROW; code = sqlite3_step(prepared)) {
      Row row;
      const int width = sqlite3_column_count(prepared);
      row.values.reserve(static_cast<std::size_t>(width));
      for (int i = 0; i < width; ++i) row.values.push_back(column(prepared, i));
      rows.push_back(std::move(row));
    }
    if (code != SQLITE_DONE) note_failure(code, sql);
    sqlite3_reset(prepared);
    sqlite3_clear_bindings(prepared);
    return rows;
  }

  void begin() {
    if (open) return;
    open = true;
    if (!failed) run("BEGIN IMMEDIATE", {});
  }
};

// How it opens: refuse what is newer, keep a copy of what is older, migrate.
struct Opening {
  Database::Impl& impl;
  const std::string& path;
  const std::vector<Migration>& migrations;

  Result<void> execute(const std::string& sql) const {
    const int result = sqlite3_exec(impl.handle.get(), sql.c_str(), nullptr, nullptr, nullptr);
    if (result != SQLITE_OK) return tl::unexpected(impl.error(result, path));
    return {};
  }
  Result<std::size_t> format() const {
    const auto rows = impl.run("PRAGMA user_version", {});
    if (impl.failed) return in_context(path, *impl.failed);
    return static_cast<std::size_t>(rows.at(0).integer(0));
  }
  tl::unexpected<Error> newer(std::size_t format) const {
    const auto known = static_cast<std::int64_t>(migrations.size());
    const std::string copy = migration_copy(path, known);
    return fail(ErrorCode::invalid,
                path + ": written by a newer Loam (format " + std::to_string(format) +
                    "; this one knows up to " + std::to_string(known) + "); start that one, or " +
                    (path_exists(copy)
                         ? "put back " + copy + ", the copy of before (what came since is lost)"
                         : "point LOAM_STATE_DIR elsewhere"));
  }
  // One transaction: killed at any point, the database is of the format before or of the one after.
  Result<void> apply(std::size_t index) const {
    LOAM_CHECK(execute("BEGIN IMMEDIATE"));
    for (const std::string& statement : migrations[index].statements)
      LOAM_CHECK(execute(statement));
    LOAM_CHECK(execute("PRAGMA user_version=" + std::to_string(index + 1)));
    LOAM_CRASH_POINT("node.migration_written");
    LOAM_CHECK(execute("COMMIT"));
    LOAM_CRASH_POINT("node.migration_committed");
    return {};
  }
  Result<void> run() const {
    const std::size_t found = LOAM_TRY(format());
    if (found > migrations.size()) return newer(found);
    LOAM_CHECK(
        execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY;"));
    if (found > 0 && found < migrations.size()) {
      LOAM_CHECK(keep_migration_copy(path, static_cast<std::int64_t>(found)));
      LOAM_CRASH_POINT("node.database_copied");
    }
    for (std::size_t i = found; i < migrations.size(); ++i) {
      if (auto applied = apply(i); !applied)
        return in_context("bringing the database to format " + std::to_string(i + 1) + " (" +
                              migrations[i].name + ")",
                          applied.error());
      if (found > 0)
        log_info("database: now of format " + std::to_string(i + 1) + " (" + migrations[i].name +
                 "); as it was: " + migration_copy(path, static_cast<std::int64_t>(found)));
    }
    return {};
  }
};

Database::Database() : impl_(std::make_unique<Impl>()) {}
Database::~Database() = default;

Result<std::unique_ptr<Database>> Database::open(const std::string& path,
                                                 const std::vector<Migration>& migrations) {
  std::unique_ptr<Database> database(new Database);
  Impl& impl = *database->impl_;
  sqlite3* raw = nullptr;
  const int flags =
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW;
  const int code = sqlite3_open_v2(path.c_str(), &raw, flags, nullptr);
  impl.handle.reset(raw);
  if (code != SQLITE_OK) return tl::unexpected(impl.error(code, path));
  sqlite3_extended_result_codes(raw, 1);
  if (::chmod(path.c_str(), 0600) != 0 && errno != ENOENT) return fail_errno(path);
  LOAM_CHECK((Opening{impl, path, migrations}.run()));
  return database;
}

Result<void> Database::vacuum_into(const std::string& from, const std::string& to) {
  sqlite3* raw = nullptr;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW;
  int code = sqlite3_open_v2(from.c_str(), &raw, flags, nullptr);
  const Handle handle(raw);
  char* sql = sqlite3_mprintf("VACUUM INTO %Q", to.c_str());
  if (code == SQLITE_OK) code = sqlite3_exec(raw, sql, nullptr, nullptr, nullptr);
  sqlite3_free(sql);
  if (code == SQLITE_OK) return {};
  return fail(code_of(code), "copying " + from + " to " + to + ": " + sqlite3_errmsg(raw));
}

void Database::write(std::string_view sql, const std::vector<Value>& values) {
  impl_->begin();
  if (!impl_->failed) impl_->run(sql, values);
}

std::int64_t Database::insert(std::string_view sql, const std::vector<Value>& values) {
  write(sql, values);
  return sqlite3_last_insert_rowid(impl_->handle.get());
}

std::vector<Row> Database::query(std::string_view sql, const std::vector<Value>& values) {
  return impl_->run(sql, values);
}

void Database::after_commit(std::function<void()> action) {
  if (!impl_->open) return action();
  impl_->actions.push_back(std::move(action));
}

Result<void> Database::commit_turn() {
  // Actions may write again: that is the next transaction of the same turn.
  while (impl_->open) {
    if (!impl_->failed) impl_->run("COMMIT", {});
    // The actions stay unrun until this object dies: the replies they hold get the error meanwhile.
    if (impl_->failed) return tl::unexpected(*impl_->failed);
    impl_->open = false;
    const auto actions = std::exchange(impl_->actions, {});
    for (const auto& action : actions) action();
  }
  return {};
}

bool Database::turn_open() const { return impl_->open; }

}  // namespace loam::node
