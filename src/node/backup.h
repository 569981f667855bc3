// `loam node backup` and `loam node restore`: all that a node must keep, as one tar.zst.
//
//   loop: no collection from here on ─▶ worker: database copied, then names listed, then
//     tar (a child) ─▶ zstd (a child) ─▶ frames on the client's connection (api/attach.h) ─▶ FILE
//   FILE ─▶ zstd ─▶ tar ─▶ an empty state folder ─ every digest checked ─ database named last
//
// Whole while the node works on: what the copied database names was stored before it was copied,
// and nothing in the store ever changes. Format: docs/formats/backup.md. Trust: a backup is the
// node's own bytes from outside: sizes and names are checked, every object is hashed again.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "node/paths.h"

namespace loam::node {

inline constexpr std::int64_t kBackupFormat = 1;
inline constexpr const char* kBackupManifest = "loam-backup.json";  // the first member
inline constexpr const char* kBackupDatabase = "database.db";       // the second
// In a state folder: a restore has begun and not ended; no node starts on it.
inline constexpr const char* kRestoreMark = "restoring";

struct BackupOptions {
  bool secrets = false;
};

// On a worker, while nothing is collected. `sink` gets the compressed bytes in order. Returns the
// manifest.
Result<Json> write_backup(const NodeContext& context, const BackupOptions& options,
                          const std::function<Result<void>(std::string_view)>& sink);

// Into the empty state folder of the node that this process would be (bootstrap.h); before any
// thread is made. exists: it is not empty. Whatever fails, the folder is as empty as it was. One
// line for each thing that came back.
Result<std::vector<std::string>> restore_backup(const std::string& file);

}  // namespace loam::node
