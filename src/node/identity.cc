#include "node/identity.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>

#include "base/files.h"
#include "base/text.h"

namespace loam::node {
namespace {

constexpr const char* kOwner = "loam";
// login.defs(5): SUB_UID_MIN and SUB_UID_MAX, where shadow's own tools look for room.
constexpr std::uint32_t kFirstSubordinate = 100'000;
constexpr std::uint32_t kLastSubordinate = 600'100'000;
constexpr int kLockTriesMax = 150;
constexpr int kLockPauseMs = 100;

struct Entry {
  std::string owner;
  sandbox::IdRange range;
};

std::optional<std::uint32_t> number(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::vector<Entry> entries_of(std::string_view text) {
  std::vector<Entry> entries;
  for (const std::string& line : split(text, '\n')) {
    const auto parts = split(line, ':');
    if (parts.size() != 3 || parts[0].empty()) continue;
    const auto first = number(parts[1]), count = number(trim(parts[2]));
    if (!first || !count || *count == 0 || *first > UINT32_MAX - *count) continue;
    entries.push_back({parts[0], {*first, *count}});
  }
  return entries;
}

Result<std::string> read_or_empty(const std::string& path) {
  auto text = read_file(path);
  if (!text && text.error().code == ErrorCode::not_found) return std::string();
  return text;
}

// shadow's own protocol (lib/commonio.c): a file with our pid, linked to PATH.lock; a lock of the
// dead is taken over.
class ShadowLock {
 public:
  static Result<ShadowLock> take(const std::string& path) {
    const std::string own = path + "." + std::to_string(::getpid());
    const std::string lock = path + ".lock";
    LOAM_CHECK(
        write_file_atomic(own, std::to_string(::getpid()), {.mode = 0600, .durable = false}));
    for (int tries = 0; ::link(own.c_str(), lock.c_str()) != 0; ++tries) {
      if (errno != EEXIST || tries >= kLockTriesMax) {
        const int why = errno;
        ::unlink(own.c_str());
        return fail_errno(lock, why);
      }
      const auto holder = read_file(lock, 64);
      const auto pid = holder ? number(trim(*holder)) : std::nullopt;
      if (pid && ::kill(static_cast<pid_t>(*pid), 0) != 0 && errno == ESRCH) {
        ::unlink(lock.c_str());
        continue;
      }
      const timespec pause{0, kLockPauseMs * 1'000'000};
      ::nanosleep(&pause, nullptr);
    }
    ::unlink(own.c_str());
    return ShadowLock(lock);
  }
  ShadowLock(ShadowLock&& other) noexcept : path_(std::exchange(other.path_, "")) {}
  ShadowLock& operator=(ShadowLock&&) = delete;
  ~ShadowLock() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }

 private:
  explicit ShadowLock(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

Result<void> add_entry(const std::string& path, std::string text, std::uint32_t first) {
  if (!text.empty() && text.back() != '\n') text += '\n';
  text +=
      std::string(kOwner) + ":" + std::to_string(first) + ":" + std::to_string(kReservedIds) + "\n";
  struct stat old {};
  const mode_t mode = ::stat(path.c_str(), &old) == 0 ? old.st_mode & 07777 : 0644;
  return write_file_atomic(path, text, {.mode = mode});
}

// Whether all of the range is mapped here: root of a container may hold fewer ids than the machine
// has.
bool mapped(const char* map, std::uint32_t first) {
  const auto text = read_file(map, 64 * 1024);
  if (!text) return true;
  for (const std::string& line : split(*text, '\n')) {
    std::vector<std::uint32_t> numbers;
    for (const std::string& word : split(line, ' '))
      if (const auto value = number(word)) numbers.push_back(*value);
    if (numbers.size() == 3 && numbers[0] <= first &&
        std::uint64_t{first} + kReservedIds <= std::uint64_t{numbers[0]} + numbers[2])
      return true;
  }
  return false;
}

Result<std::uint32_t> find_or_add(const std::string& folder) {
  const std::string uid_path = folder + "/subuid", gid_path = folder + "/subgid";
  const auto own = [](const std::string& text) -> std::optional<std::uint32_t> {
    for (const Entry& entry : entries_of(text))
      if (entry.owner == kOwner && entry.range.count >= kReservedIds) return entry.range.first;
    return std::nullopt;
  };
  const auto agreed = [&](const std::string& uids,
                          const std::string& gids) -> std::optional<std::uint32_t> {
    const auto uid = own(uids), gid = own(gids);
    return uid && uid == gid ? uid : std::nullopt;
  };
  std::string uids = LOAM_TRY(read_or_empty(uid_path));
  std::string gids = LOAM_TRY(read_or_empty(gid_path));
  if (const auto first = agreed(uids, gids)) return *first;

  const ShadowLock uid_lock = LOAM_TRY(ShadowLock::take(uid_path));
  const ShadowLock gid_lock = LOAM_TRY(ShadowLock::take(gid_path));
  uids = LOAM_TRY(read_or_empty(uid_path));
  gids = LOAM_TRY(read_or_empty(gid_path));
  if (const auto first = agreed(uids, gids)) return *first;
  // An entry in one file alone is a start that was cut short: the same range again, where the other
  // has room.
  const auto half = own(uids) ? own(uids) : own(gids);
  const bool uid_missing = !own(uids);
  if (half && free_range(uid_missing ? uids : gids, "", *half) == *half) {
    LOAM_CHECK(add_entry(uid_missing ? uid_path : gid_path, uid_missing ? uids : gids, *half));
    return *half;
  }
  const std::uint32_t first = LOAM_TRY(free_range(uids, gids));
  LOAM_CHECK(add_entry(uid_path, uids, first));
  LOAM_CHECK(add_entry(gid_path, gids, first));
  return first;
}

// The file without the lines that add_entry writes.
Result<bool> remove_entries(const std::string& path) {
  const ShadowLock lock = LOAM_TRY(ShadowLock::take(path));
  const std::string text = LOAM_TRY(read_or_empty(path));
  std::string kept;
  for (const std::string& line : split(text, '\n')) {
    const auto entries = entries_of(line);
    if (entries.size() == 1 && entries[0].owner == kOwner && entries[0].range.count == kReservedIds)
      continue;
    kept += line + "\n";
  }
  if (!kept.empty()) kept.pop_back();  // split's last piece is what follows the last newline
  if (kept == text) return false;
  struct stat old {};
  if (::stat(path.c_str(), &old) != 0) return fail_errno(path);
  LOAM_CHECK(write_file_atomic(path, kept, {.mode = old.st_mode & 07777}));
  return true;
}

}  // namespace

Result<bool> release_ids(const std::string& folder) {
  const bool uids = LOAM_TRY(remove_entries(folder + "/subuid"));
  const bool gids = LOAM_TRY(remove_entries(folder + "/subgid"));
  return uids || gids;
}

std::vector<sandbox::IdRange> subordinate_ranges(std::string_view text, const std::string& name,
                                                 std::uint32_t id) {
  std::vector<sandbox::IdRange> ranges;
  for (const Entry& entry : entries_of(text))
    if (entry.owner == name || entry.owner == std::to_string(id)) ranges.push_back(entry.range);
  return ranges;
}

Result<std::uint32_t> free_range(std::string_view subuid, std::string_view subgid,
                                 std::uint32_t from) {
  std::vector<Entry> taken = entries_of(subuid);
  for (Entry& entry : entries_of(subgid)) taken.push_back(std::move(entry));
  std::sort(taken.begin(), taken.end(),
            [](const Entry& a, const Entry& b) { return a.range.first < b.range.first; });
  std::uint64_t candidate = from;
  for (const Entry& entry : taken) {
    const std::uint64_t end = std::uint64_t{entry.range.first} + entry.range.count;
    if (end <= candidate) continue;
    if (entry.range.first >= candidate + kReservedIds) break;
    candidate = end;
  }
  if (candidate + kReservedIds > kLastSubordinate)
    return fail(ErrorCode::full, "no " + std::to_string(kReservedIds) +
                                     " ids are free in /etc/subuid and /etc/subgid");
  return static_cast<std::uint32_t>(candidate);
}

Result<std::uint32_t> free_range(std::string_view subuid, std::string_view subgid) {
  return free_range(subuid, subgid, kFirstSubordinate);
}

Result<Identity> reserve_ids(const std::string& folder) {
  const auto first = find_or_add(folder);
  if (!first)
    return in_context("reserving ids for builds and jobs (mend: add the line '" +
                          std::string(kOwner) + ":FIRST:" + std::to_string(kReservedIds) + "' to " +
                          folder + "/subuid and " + folder + "/subgid)",
                      first.error());
  if (!mapped("/proc/self/uid_map", *first) || !mapped("/proc/self/gid_map", *first))
    return fail(ErrorCode::unavailable, "the ids " + std::to_string(*first) + " to " +
                                            std::to_string(*first + kReservedIds - 1) +
                                            " that are reserved for loam do not exist in this "
                                            "container: give it more ids, or run the node "
                                            "as an ordinary user");
  Identity identity;
  identity.build_uids = {*first, kBuildIds};
  identity.build_gids = {*first, kBuildIds};
  identity.job_uid = *first + kBuildIds;
  identity.job_gid = *first + kBuildIds;
  return identity;
}

}  // namespace loam::node
