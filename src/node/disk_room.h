// How little room the disk below the node's state may have left, and the room there that the node
// keeps for itself, so that no job can end it by what it writes (docs/recovery.md, "A full disk").
//
//   free >= starts     all goes on
//   free <  starts     nothing starts, no snapshot is taken
//   free <  writers    the attempt that wrote most is ended (full_disk.cc)
//   free == 0          commits go into blocks that the database's log has already; a node that starts
//                      gives up the spare file
#pragma once

#include <cstdint>
#include <string>

#include "node/disk.h"
#include "node/paths.h"

namespace loam::node {

struct DiskBounds {
  std::uint64_t starts = 0;
  std::uint64_t writers = 0;
  std::uint64_t spare = 0;  // the spare file's size
  std::uint64_t log = 0;    // what the database's write-ahead log has at least
};
DiskBounds bounds_of(const Disk& disk);

// "" where attempts may start and snapshots be taken; else why not, and the mend.
std::string refusal_by_disk(const std::string& state);

// Where the disk has room for it; again and again: nothing. The database is open. Best effort: a node
// works without.
void set_room_aside(const Paths& paths);
// STATE/spare goes where the disk has no room for what a start writes.
void give_up_spare_if_full(const std::string& state);

}  // namespace loam::node
