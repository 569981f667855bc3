#include "shim/exit_journal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "api/exit_journal.h"
#include "base/files.h"

namespace loam::shim {

Result<ExitJournal> ExitJournal::open(const std::string& folder) {
  Fd file =
      LOAM_TRY(open_file(folder + "/exits", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600));
  LOAM_CHECK(sync_folder(folder));
  return ExitJournal(std::move(file));
}

Result<void> ExitJournal::reserve(std::size_t tasks) {
  struct stat status {};
  if (::fstat(file_.get(), &status) != 0) return fail_errno("the journal of exits");
  const auto room = static_cast<off_t>(tasks * api::kJournalTaskBytes);
  const bool made = ::fallocate(file_.get(), FALLOC_FL_KEEP_SIZE, status.st_size, room) == 0;
  if (!made && (errno == ENOSPC || errno == EDQUOT)) return fail_errno("the journal of exits");
  return {};
}

Result<void> ExitJournal::append(const std::string& line) {
  auto written = write_full(file_.get(), line);
  if (!written) return in_context("the journal of exits", written.error());
  return {};
}

Result<void> ExitJournal::add_begun(const std::string& attempt) {
  return append(api::journal_line(api::begun_entry(attempt)));
}

Result<void> ExitJournal::add(const api::ExitRecord& record) {
  return append(api::journal_line(api::to_json(record)));
}

Result<void> ExitJournal::sync() {
  if (::fdatasync(file_.get()) != 0) return fail_errno("fsync of the journal of exits");
  return {};
}

}  // namespace loam::shim
