// A copy of a database file that is whole and consistent, also while another connection writes.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace loam::node {

// VACUUM INTO (SQLite's manual: a snapshot of the last commit; readers and writers go on), then
// fsync and rename: `to` is the whole copy or what it was. 0600. A full disk leaves nothing behind.
Result<void> copy_database(const std::string& from, const std::string& to);

// Copies of before a migration lie beside the database as PATH.format-N; the newest
// kMigrationCopiesMax stay.
inline constexpr std::size_t kMigrationCopiesMax = 3;
std::string migration_copy(const std::string& path, std::int64_t format);
Result<void> keep_migration_copy(const std::string& path, std::int64_t format);

}  // namespace loam::node
