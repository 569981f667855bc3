#include "node/database_copy.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <functional>
#include <vector>

#include "base/files.h"
#include "node/database.h"

namespace loam::node {
namespace {

// The format of a copy's name, 0 where it is none.
std::int64_t format_of(const std::string& name, const std::string& stem) {
  if (!name.starts_with(stem)) return 0;
  std::int64_t format = 0;
  const auto [end, error] =
      std::from_chars(name.data() + stem.size(), name.data() + name.size(), format);
  return error == std::errc() && end == name.data() + name.size() ? format : 0;
}

}  // namespace

Result<void> copy_database(const std::string& from, const std::string& to) {
  const std::string partial = to + ".partial";
  if (::unlink(partial.c_str()) != 0 && errno != ENOENT) return fail_errno(partial);
  {
    // SQLite takes an empty file; made by us, for it would let others read the copy.
    const Fd made = LOAM_TRY(open_file(partial, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    auto copied = Database::vacuum_into(from, partial);
    if (copied && ::fsync(made.get()) != 0) copied = fail_errno(partial);
    if (copied && ::rename(partial.c_str(), to.c_str()) != 0) copied = fail_errno(to);
    if (!copied) {
      ::unlink(partial.c_str());
      return copied;
    }
  }
  return sync_folder(to.substr(0, to.rfind('/')));
}

std::string migration_copy(const std::string& path, std::int64_t format) {
  return path + ".format-" + std::to_string(format);
}

Result<void> keep_migration_copy(const std::string& path, std::int64_t format) {
  LOAM_CHECK(copy_database(path, migration_copy(path, format)));
  const std::size_t slash = path.rfind('/');
  const std::string stem = path.substr(slash + 1) + ".format-";
  std::vector<std::int64_t> formats;
  for (const std::string& name : LOAM_TRY(list_folder(path.substr(0, slash))))
    if (const std::int64_t one = format_of(name, stem); one > 0) formats.push_back(one);
  std::ranges::sort(formats, std::greater<>());
  for (std::size_t i = kMigrationCopiesMax; i < formats.size(); ++i)
    if (formats[i] != format) ::unlink(migration_copy(path, formats[i]).c_str());
  return {};
}

}  // namespace loam::node
