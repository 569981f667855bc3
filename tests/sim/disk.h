// The disk under the node's real SQLite: a VFS (sqlite.org/vfs.html) that keeps files in memory and
// knows what was synced. It can refuse a write or a sync, stop taking anything in the middle of a
// commit (the process was killed there), and at a power cut keep only some of what was not synced.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "random.h"

namespace loam::simulation {

struct DiskFile {
  std::string now, synced;
  struct Unsynced {
    std::size_t at;
    std::string bytes;
    std::size_t truncated_to;  // where bytes are empty
  };
  std::vector<Unsynced> unsynced;
  std::vector<std::vector<char>> shared;  // of the write-ahead log's index: gone with its process
};

class Disk {
 public:
  static Disk& instance();  // SQLite's default VFS from the first call on

  void reset(const std::map<std::string, std::shared_ptr<DiskFile>>& files);
  // The process is gone: what it still does has no effect, as nothing it does can.
  void process_dies() { dead = true; }
  void process_starts();
  void power_cut(Random& random);

  std::map<std::string, std::shared_ptr<DiskFile>> files;
  bool dead = false;
  int full_after = -1;        // writes until the disk is full; -1: it is not
  int sync_fails_after = -1;  // syncs until one fails
  int dies_after = -1;        // writes until the process is killed
};

}  // namespace loam::simulation
