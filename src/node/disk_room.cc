#include "node/disk_room.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/files.h"
#include "base/log.h"
#include "base/text.h"

namespace loam::node {
namespace {

constexpr std::uint64_t kMiB = 1u << 20;

std::string spare_in(const std::string& state) { return state + "/spare"; }

bool allocate(const Result<Fd>& file, int mode, std::uint64_t size_bytes) {
  return file && ::fallocate(file->get(), mode, 0, static_cast<off_t>(size_bytes)) == 0;
}

}  // namespace

// Of a small disk a part.
DiskBounds bounds_of(const Disk& disk) {
  const auto at_most = [&](std::uint64_t bytes, std::uint64_t part) {
    return std::min(bytes, disk.total_bytes / part);
  };
  return {.starts = at_most(256 * kMiB, 16),
          .writers = at_most(64 * kMiB, 64),
          .spare = at_most(32 * kMiB, 32),
          .log = at_most(32 * kMiB, 16)};
}

std::string refusal_by_disk(const std::string& state) {
  const auto disk = look_at_disk(state);
  if (!disk) return "";  // whatever is done there will say it
  const std::uint64_t wanted = bounds_of(*disk).starts;
  if (disk->free_bytes >= wanted) return "";
  return "the disk of Loam's state, " + state + ", has " + format_size(disk->free_bytes) +
         " left; snapshots and starts need " + format_size(wanted) +
         ": free some there (loam store gc, or what else fills it)";
}

// The log's lies beyond its end, where no reader looks. Closing another descriptor of the log is safe:
// SQLite's locks are on its index (sqlite.org/walformat.html, "WAL Locks"). The bounds stay free, for a
// call that finds too little takes what there is.
void set_room_aside(const Paths& paths) {
  const auto disk = look_at_disk(paths.state);
  if (!disk) return;
  const DiskBounds bounds = bounds_of(*disk);
  if (disk->free_bytes < bounds.starts + bounds.spare + bounds.log) return;
  const auto log = open_file(paths.database + "-wal", O_WRONLY | O_NOFOLLOW);
  (void)allocate(log, FALLOC_FL_KEEP_SIZE, bounds.log);
  const std::string spare = spare_in(paths.state);
  if (path_exists(spare)) return;
  const auto file = open_file(spare, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (!allocate(file, 0, bounds.spare)) (void)::unlink(spare.c_str());
}

// What it writes: its lock, the index of the database's log, folders.
void give_up_spare_if_full(const std::string& state) {
  const auto disk = look_at_disk(state);
  if (!disk || disk->free_bytes >= bounds_of(*disk).writers) return;
  if (::unlink(spare_in(state).c_str()) == 0)
    log_warning("the disk of " + state + " has " + format_size(disk->free_bytes) +
                " left: gave up " + spare_in(state) + " to start");
}

}  // namespace loam::node
