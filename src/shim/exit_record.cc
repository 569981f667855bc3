#include "shim/exit_record.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <cerrno>

#include "base/fd.h"
#include "base/files.h"

namespace loam::shim {
namespace {

constexpr off_t kRoomBytes = 16 << 10;  // an error's words are the long part

// The file that becomes the record: its blocks, its inode and its name's place are there already.
std::string room_in(const std::string& folder) { return folder + "/exit.json.part"; }

Result<Fd> open_room(const std::string& folder) {
  return open_file(room_in(folder), O_WRONLY | O_CREAT | O_NOFOLLOW, 0600);
}

Result<void> fill_room(const std::string& folder, const std::string& text) {
  const Fd room = LOAM_TRY(open_room(folder));
  LOAM_CHECK(write_full(room.get(), text));
  // Gives back what is too much, and what a record that was cut short left.
  if (::ftruncate(room.get(), static_cast<off_t>(text.size())) != 0) return fail_errno("truncate");
  if (::fsync(room.get()) != 0) return fail_errno("fsync");
  return {};
}

}  // namespace

bool has_exit_record(const std::string& folder) { return path_exists(folder + "/exit.json"); }

Result<void> reserve_exit_record(const std::string& folder) {
  const Fd room = LOAM_TRY(open_room(folder));
  const bool made = ::fallocate(room.get(), FALLOC_FL_KEEP_SIZE, 0, kRoomBytes) == 0;
  if (!made && (errno == ENOSPC || errno == EDQUOT)) return fail_errno(room_in(folder));
  return {};
}

Result<void> write_exit_record(const std::string& folder, const api::ExitRecord& record) {
  if (has_exit_record(folder)) return {};
  const std::string path = folder + "/exit.json";
  auto written = fill_room(folder, api::to_json(record).dump());
  if (written && ::rename(room_in(folder).c_str(), path.c_str()) != 0)
    written = fail_errno("rename");
  if (!written) return in_context(path, written.error());
  return sync_folder(folder);
}

}  // namespace loam::shim
