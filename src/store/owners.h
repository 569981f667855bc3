// Whom files of the store belong to, where this process has one id alone.
//
// A record says 0 for every file of a snapshot. A user's node without subordinate ids lives in a
// namespace that maps that user alone (user_namespaces(7)): nothing there can be given to 0. Such
// a store keeps 0's files as the user's own and reads them back as 0's, so that names and records
// are those of any other store.
#pragma once

#include <sys/types.h>

#include <string_view>

namespace loam::store {

struct Owners {
  bool alone = false;  // one id is mapped, and it is not 0
  uid_t uid = 0;
  gid_t gid = 0;

  uid_t uid_on_disk(uid_t recorded) const { return alone && recorded == 0 ? uid : recorded; }
  gid_t gid_on_disk(gid_t recorded) const { return alone && recorded == 0 ? gid : recorded; }
  uid_t recorded_uid(uid_t on_disk) const { return alone && on_disk == uid ? 0 : on_disk; }
  gid_t recorded_gid(gid_t on_disk) const { return alone && on_disk == gid ? 0 : on_disk; }
};

// From the text of /proc/PID/uid_map and the ids of its process.
Owners owners_for(std::string_view uid_map, uid_t uid, gid_t gid);

// Of this process; looked up once, for a process enters its namespace before it opens a store.
const Owners& owners();

}  // namespace loam::store
