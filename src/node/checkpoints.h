// A job's checkpoints: the one folder that its attempts share, and which of what lies in it the next
// attempt goes on from.
//
//   STATE/checkpoints/JOB/files/         the job's user's, bound at `checkpoint: path`
//                         settled.json   what was decided after which attempt
//                         torn/          what the last attempt had not finished
//
//   an attempt ends ─ settle_checkpoints: newest complete one ─ fsync ─ settled.json ─ the torn set
//   aside ─ the oldest pruned ─▶ LOAM_CHECKPOINT of the next attempt
//
// Threads: on workers. Trust: names and files are a job's; nothing is followed out of the folder, and
// no process of the job lives while it is settled.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "api/attempt.h"
#include "base/result.h"

namespace loam::node {

struct CheckpointRule {
  std::string match = "checkpoint-*";
  int keep = 3;
};

// How an attempt ended, as far as what it wrote last is concerned.
struct AttemptEnd {
  enum class Kind {
    willing,    // by itself, or as it was told to: what it wrote is whole
    cut_short,  // killed, or gone wrong: what it was writing may be torn
    with_boot,  // with the machine: so may be what was not on the disk yet
  };
  Kind kind = Kind::willing;
  int number = 0;             // of the attempt
  std::int64_t alive_ms = 0;  // the last moment at which it is known to have lived
};

// `alive_ms`: of an attempt whose end nobody saw (lost), from what it last printed.
AttemptEnd attempt_end(int number, const api::ExitRecord& record, bool same_boot,
                       std::int64_t alive_ms);

struct Settled {
  std::string name;  // of the last completed checkpoint, "" for none
  std::uint64_t size_bytes = 0;
  std::vector<std::string> torn;  // newer ones that were set aside
};

// Complete is: what carries the SDK's mark (written, synced, renamed); after a willing end the newest
// that is not empty; else the newest that had not changed for 5 s before the end (60 s where the
// machine went down) and lacks no file of the one before it; else the one before it. Asked again
// about the same attempt it answers the same, whatever it did before it was interrupted.
// `folder`: STATE/checkpoints/JOB; none there: no checkpoint.
Result<Settled> settle_checkpoints(const std::string& folder, const CheckpointRule& rule,
                                   const AttemptEnd& end);

// What settle_checkpoints ends with; alone for a job that has succeeded: the newest `keep` stay.
Result<void> prune_checkpoints(const std::string& folder, const CheckpointRule& rule);

// Makes what an attempt needs: files/, owned by the job's user.
Result<void> make_checkpoint_folder(const std::string& folder, std::uint32_t uid,
                                    std::uint32_t gid);

// Where checkpoints and output are one folder: what `match` does not name moves into the (empty or
// half filled) output folder.
Result<void> move_output(const std::string& folder, const CheckpointRule& rule,
                         const std::string& output);

inline constexpr std::string_view kCheckpointMark = ".loam-checkpoint";  // python/loam

}  // namespace loam::node
