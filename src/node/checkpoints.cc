#include "node/checkpoints.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <map>
#include <optional>

#include "base/crash_point.h"
#include "base/files.h"
#include "base/glob.h"
#include "base/json.h"
#include "base/text.h"
#include "node/work_folders.h"

namespace loam::node {
namespace {

constexpr std::int64_t kQuietMs = 5'000;
// The kernel writes dirty pages back within 30 s, and the filesystem commits its journal 5 s later.
constexpr std::int64_t kFlushedMs = 60'000;
constexpr std::size_t kFilesMax = 100'000;  // of one checkpoint
constexpr int kDepthMax = 64;
constexpr std::string_view kOwnNames = ".loam";  // the SDK's unfinished ones, its mark

struct Entry {
  std::string name;
  std::int64_t changed_ns = 0;  // the latest change (ctime) of it or of anything in it
  std::uint64_t size_bytes = 0;
  bool marked = false;
  bool is_folder = false;
  std::map<std::string, int> shapes;  // of its files that are not empty: paths with '#' for numbers
};

std::int64_t changed_ns(const struct stat& status) {
  return status.st_ctim.tv_sec * 1'000'000'000 + status.st_ctim.tv_nsec;
}

// "global_step100/rank_3.pt" → "global_step#/rank_#.pt": the same file of another checkpoint.
std::string shape_of(const std::string& path) {
  std::string shape;
  for (const char c : path) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit)
      shape += c;
    else if (shape.empty() || shape.back() != '#')
      shape += '#';
  }
  return shape;
}

// Every entry below the folder, the folders too; nothing is followed.
template <class Visit>
bool walk(Fd folder_fd, const std::string& prefix, int depth, std::size_t& left, Visit&& visit) {
  DIR* const folder = ::fdopendir(folder_fd.get());
  if (folder == nullptr) return false;
  (void)folder_fd.release();
  bool whole = depth < kDepthMax;
  while (const dirent* item = whole ? ::readdir(folder) : nullptr) {
    const std::string name = item->d_name;
    if (name == "." || name == "..") continue;
    struct stat status {};
    whole = left-- > 0 &&
            ::fstatat(::dirfd(folder), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            visit(::dirfd(folder), name, prefix + name, status);
    if (!whole || !S_ISDIR(status.st_mode)) continue;
    Fd child(
        ::openat(::dirfd(folder), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    whole = child && walk(std::move(child), prefix + name + "/", depth + 1, left, visit);
  }
  ::closedir(folder);
  return whole;
}

Fd open_folder(const std::string& path) {
  return Fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

std::optional<Entry> look_at(const std::string& path, const std::string& name) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return {};
  Entry entry;
  entry.name = name;
  entry.changed_ns = changed_ns(status);
  if (S_ISREG(status.st_mode)) {
    entry.size_bytes = static_cast<std::uint64_t>(status.st_size);
    return entry;
  }
  if (!S_ISDIR(status.st_mode)) return {};
  entry.is_folder = true;
  std::size_t left = kFilesMax;
  // What is too large to be looked at is not judged: it counts as changed when it was last renamed.
  (void)walk(open_folder(path), "", 0, left,
             [&](int, const std::string&, const std::string& file, const struct stat& found) {
               entry.changed_ns = std::max(entry.changed_ns, changed_ns(found));
               if (!S_ISREG(found.st_mode)) return true;
               entry.size_bytes += static_cast<std::uint64_t>(found.st_size);
               if (file == kCheckpointMark) entry.marked = true;
               if (found.st_size > 0) ++entry.shapes[shape_of(file)];
               return true;
             });
  return entry;
}

// Newest first.
std::vector<Entry> find_entries(const std::string& files, const std::string& match) {
  std::vector<Entry> entries;
  const auto names = list_folder(files);
  const Glob pattern(match);
  for (const std::string& name : names ? *names : std::vector<std::string>{}) {
    // The name becomes a variable and an argument of the next attempt.
    if (name.starts_with(kOwnNames) || !is_utf8(name) || !pattern.matches(name)) continue;
    if (auto entry = look_at(files + "/" + name, name)) entries.push_back(std::move(*entry));
  }
  const auto newer = [](const Entry& a, const Entry& b) {
    if (a.changed_ns != b.changed_ns) return a.changed_ns > b.changed_ns;
    if (a.name.size() != b.name.size()) return a.name.size() > b.name.size();  // -1000 after -900
    return a.name > b.name;
  };
  std::sort(entries.begin(), entries.end(), newer);
  return entries;
}

bool quiet(const Entry& entry, std::int64_t alive_ms, std::int64_t window_ms) {
  return entry.changed_ns / 1'000'000 + window_ms <= alive_ms;
}

bool has_files_of(const Entry& entry, const Entry& before) {
  if (!entry.is_folder || !before.is_folder) return true;
  return std::all_of(before.shapes.begin(), before.shapes.end(), [&](const auto& shape) {
    const auto found = entry.shapes.find(shape.first);
    return found != entry.shapes.end() && found->second >= shape.second;
  });
}

// Index of the last completed one; entries.size() where there is none.
std::size_t last_completed(const std::vector<Entry>& entries, const AttemptEnd& end) {
  bool newest = true;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const Entry& entry = entries[i];
    if (entry.marked) return i;
    if (entry.size_bytes == 0) continue;
    const Entry* const before = i + 1 < entries.size() ? &entries[i + 1] : nullptr;
    if (end.kind == AttemptEnd::Kind::willing) return i;
    if (end.kind == AttemptEnd::Kind::with_boot) {
      if (quiet(entry, end.alive_ms, kFlushedMs)) return i;
      continue;
    }
    // Whoever begins the next one has finished the one before.
    if (!newest) return i;
    newest = false;
    if (quiet(entry, end.alive_ms, kQuietMs) && (before == nullptr || has_files_of(entry, *before)))
      return i;
  }
  return entries.size();
}

// To the disk, so that what a later attempt relies on survives the machine.
Result<void> sync_entry(const std::string& path, bool is_folder) {
  const Fd top = LOAM_TRY(open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  int failure = 0;
  const auto sync = [&](int fd) {
    if (::fsync(fd) != 0 && failure == 0) failure = errno;
  };
  std::size_t left = kFilesMax;
  if (is_folder)
    (void)walk(open_folder(path), "", 0, left,
               [&](int folder, const std::string& name, const std::string&,
                   const struct stat& found) {
                 if (!S_ISREG(found.st_mode) && !S_ISDIR(found.st_mode)) return true;
                 const Fd fd(::openat(folder, name.c_str(),
                                      O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
                 if (fd) sync(fd.get());
                 return true;
               });
  sync(top.get());
  if (failure != 0) return fail_errno("fsync " + printable(path), failure);
  return {};
}

struct Decision {
  int attempt = 0;
  std::string checkpoint;
  std::vector<std::string> torn;
};

std::optional<Decision> read_decision(const std::string& folder) {
  const auto text = read_file(folder + "/settled.json");
  const auto document = text ? Json::parse(*text) : Result<Json>(Json());
  if (!document || !document->is_object()) return {};
  return Decision{static_cast<int>((*document)["attempt"].as_int()),
                  (*document)["checkpoint"].as_string(), (*document)["torn"].as_strings()};
}

Result<void> write_decision(const std::string& folder, const Decision& decision) {
  return write_file_atomic(folder + "/settled.json",
                           Json::object({{"attempt", decision.attempt},
                                         {"checkpoint", decision.checkpoint},
                                         {"torn", Json::array_of(decision.torn)}})
                               .dump());
}

Result<Decision> decide(const std::string& folder, const CheckpointRule& rule,
                        const AttemptEnd& end) {
  if (const auto known = read_decision(folder); known && known->attempt == end.number)
    return *known;
  const std::string files = folder + "/files";
  const auto entries = find_entries(files, rule.match);
  const std::size_t chosen = last_completed(entries, end);
  Decision decision{end.number, "", {}};
  for (std::size_t i = 0; i < chosen; ++i) decision.torn.push_back(entries[i].name);
  if (chosen < entries.size()) {
    decision.checkpoint = entries[chosen].name;
    LOAM_CHECK(sync_entry(files + "/" + decision.checkpoint, entries[chosen].is_folder));
    LOAM_CHECK(sync_folder(files));
  }
  LOAM_CHECK(remove_tree(folder + "/torn"));
  LOAM_CHECK(write_decision(folder, decision));
  LOAM_CRASH_POINT("node.checkpoint_decided");
  return decision;
}

Result<void> set_aside(const std::string& folder, const std::string& name) {
  LOAM_CHECK(make_folders(folder + "/torn", 0700));
  if (::rename((folder + "/files/" + name).c_str(), (folder + "/torn/" + name).c_str()) != 0 &&
      errno != ENOENT)
    return fail_errno("set aside " + printable(name));
  return {};
}

}  // namespace

AttemptEnd attempt_end(int number, const api::ExitRecord& record, bool same_boot,
                       std::int64_t alive_ms) {
  using api::Outcome;
  AttemptEnd end{.number = number, .alive_ms = record.ended_ms};
  const bool told = record.outcome == Outcome::preempted || record.outcome == Outcome::timed_out ||
                    record.outcome == Outcome::cancelled;
  const bool willing = (told && record.signal == 0) ||
                       (record.outcome == Outcome::exited && record.code == 0);
  const bool nothing_ran =
      record.outcome == Outcome::failed_to_start || record.outcome == Outcome::device_busy;
  if (willing || nothing_ran) return end;
  end.kind = AttemptEnd::Kind::cut_short;
  if (record.outcome != Outcome::lost) return end;
  end.alive_ms = alive_ms;
  if (!same_boot) end.kind = AttemptEnd::Kind::with_boot;
  return end;
}

Result<Settled> settle_checkpoints(const std::string& folder, const CheckpointRule& rule,
                                   const AttemptEnd& end) {
  if (!path_exists(folder + "/files")) return Settled{};
  const Decision decision = LOAM_TRY(decide(folder, rule, end));
  for (const std::string& name : decision.torn) LOAM_CHECK(set_aside(folder, name));
  LOAM_CHECK(prune_checkpoints(folder, rule));
  Settled settled{decision.checkpoint, 0, decision.torn};
  if (settled.name.empty()) return settled;
  const auto entry = look_at(folder + "/files/" + settled.name, settled.name);
  if (!entry) return Settled{"", 0, decision.torn};
  settled.size_bytes = entry->size_bytes;
  return settled;
}

// What is removed has another name first: half of it must not look whole.
Result<void> prune_checkpoints(const std::string& folder, const CheckpointRule& rule) {
  const std::string files = folder + "/files";
  const auto entries = find_entries(files, rule.match);
  for (std::size_t i = static_cast<std::size_t>(std::max(rule.keep, 1)); i < entries.size(); ++i)
    if (::rename((files + "/" + entries[i].name).c_str(),
                 (files + "/.loam-removed-" + std::to_string(i)).c_str()) != 0)
      return fail_errno("remove " + printable(entries[i].name));
  const auto names = list_folder(files);
  for (const std::string& name : names ? *names : std::vector<std::string>{})
    if (name.starts_with(kOwnNames)) LOAM_CHECK(remove_tree(files + "/" + name));
  return {};
}

Result<void> make_checkpoint_folder(const std::string& folder, std::uint32_t uid,
                                    std::uint32_t gid) {
  LOAM_CHECK(make_folders(folder, 0700));
  return make_owned_folder(folder + "/files", uid, gid);
}

Result<void> move_output(const std::string& folder, const CheckpointRule& rule,
                         const std::string& output) {
  const auto names = list_folder(folder + "/files");
  const Glob pattern(rule.match);
  for (const std::string& name : names ? *names : std::vector<std::string>{}) {
    if (name.starts_with(kOwnNames) || pattern.matches(name)) continue;
    if (::rename((folder + "/files/" + name).c_str(), (output + "/" + name).c_str()) != 0)
      return fail_errno("take " + printable(name) + " for the output");
  }
  return {};
}

}  // namespace loam::node
