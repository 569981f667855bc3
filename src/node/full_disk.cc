// A job must not take the disk of the node's state from all others: when that runs full, the attempt
// that has written most to it since its start is ended.
//
//   an attempt runs ─ timer ─ statfs ─ below the bound? ─▶ worker: what each wrote ─▶ the largest is ended
//
// Looked at as seldom as a fast disk takes to be filled, and not at all where nothing runs. Nobody is
// ended whose end would not help. Not counted: files that have lost their names, and what lies outside
// the folders that Loam gives an attempt.
#include <algorithm>
#include <chrono>

#include "base/files.h"
#include "base/log.h"
#include "base/text.h"
#include "node/disk_room.h"
#include "node/findings.h"
#include "node/runs_impl.h"

namespace loam::node {

struct DiskWriter {
  AttemptView attempt;
  std::string target;
  std::vector<std::string> folders;
  std::uint64_t bytes = 0;
};

namespace {

constexpr std::uint64_t kFastDiskBytes = 1u << 30;  // a second
constexpr std::chrono::seconds kLookMin{1}, kLookMax{60};
constexpr std::chrono::seconds kLookFull{5};  // where each costs a walk
constexpr std::uint64_t kNoLimit = ~std::uint64_t{0} >> 1;

std::chrono::seconds pause_before_look(const Disk& disk) {
  const std::uint64_t bound = bounds_of(disk).writers;
  if (disk.free_bytes < bound) return kLookFull;
  const std::uint64_t seconds = (disk.free_bytes - bound) / kFastDiskBytes;
  return std::clamp(std::chrono::seconds(seconds), kLookMin, kLookMax);
}

}  // namespace

void Runs::Impl::watch_disk() {
  if (disk_timer != nullptr) return;
  const auto disk = look_at_disk(node.context.paths.state);
  if (!disk) return;
  disk_timer = node.loop.after(pause_before_look(*disk), [this] {
    disk_timer.reset();
    look_at_writers();
  });
}

// Its files go while its end is looked into; until then the disk is as full as it was.
bool Runs::Impl::largest_writer_goes() {
  if (!ended_for_disk) return false;
  const auto now = node.supervisor.find(ended_for_disk->id);
  return (now && now->state != "ended") || finishing.contains(ended_for_disk->job);
}

void Runs::Impl::look_at_writers() {
  const Paths& paths = node.context.paths;
  auto writers = std::make_shared<std::vector<DiskWriter>>();
  for (const Row& row : node.db.query("SELECT id FROM attempts WHERE state='running' AND lane IN (0, id) ORDER BY id")) {
    const auto attempt = node.supervisor.find(row.integer(0));
    const auto job = attempt ? tables.job(attempt->job) : std::nullopt;
    const auto run = job ? tables.run(job->run) : std::nullopt;
    if (!run) continue;
    writers->push_back({*attempt,
                        target_text(*job),
                        {work_of(*job, attempt->number), checkpoints_of(job->id),
                         paths.homes + "/" + std::to_string(run->job_uid) + "/" + run->project}});
  }
  if (writers->empty()) return;
  set_room_aside(paths);
  const auto disk = look_at_disk(paths.state);
  if (!disk || disk->free_bytes >= bounds_of(*disk).writers || largest_writer_goes())
    return watch_disk();
  node.loop.offload(
      [writers] {
        for (DiskWriter& writer : *writers)
          for (const std::string& folder : writer.folders)
            writer.bytes += folder_bytes(folder, kNoLimit, writer.attempt.started_ms);
      },
      [this, writers] {
        end_largest_writer(*writers);
        watch_disk();
      });
}

void Runs::Impl::end_largest_writer(const std::vector<DiskWriter>& writers) {
  const std::string& state = node.context.paths.state;
  const auto disk = look_at_disk(state);
  if (!disk) return;
  const std::uint64_t bound = bounds_of(*disk).writers;
  if (disk->free_bytes >= bound) return;
  const DiskWriter& most = *std::max_element(
      writers.begin(), writers.end(),
      [](const DiskWriter& one, const DiskWriter& other) { return one.bytes < other.bytes; });
  if (most.bytes < bound - disk->free_bytes) return;
  const std::string left = format_size(disk->free_bytes) + " left";
  log_warning("the disk of " + state + " has " + left + ": " + most.target + " is ended, which wrote " +
              format_size(most.bytes) + " to it");
  ended_for_disk = most.attempt;
  node.supervisor.stop(most.attempt.id, api::Outcome::disk_full,
                       "the disk of Loam's state, " + state + ", was full (" + left +
                           ") and this job had written most to it, " + format_size(most.bytes) +
                           ": write large files to a mount, or less of them");
}

// Of a service's replica, whose end nobody looks into.
void Runs::Impl::drop_files(const JobRow& job, const AttemptView& attempt) {
  finishing.insert(job.id);
  node.loop.offload([folder = work_of(job, attempt.number) + "/project"] { (void)remove_tree(folder); },
                    [this, id = job.id] { finishing.erase(id); });
}

}  // namespace loam::node
