#include "sandbox/device_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <string_view>

#include "base/clock.h"
#include "base/files.h"
#include "base/json.h"
#include "base/text.h"
#include "sandbox/cgroup.h"
#include "sandbox/user_namespace.h"

namespace loam::sandbox {
namespace {

constexpr std::size_t kContentBytesMax = 4096;
constexpr std::size_t kWordsBytesMax = 512;
constexpr std::int64_t kPauseMs = 5;
constexpr std::int64_t kMillisecond = 1'000'000;
constexpr std::string_view kCgroups = "/sys/fs/cgroup/";
constexpr mode_t kFolderMode = 01777, kFileMode = 0666;

void pause_ms(std::int64_t milliseconds) {
  const timespec time{0, milliseconds * kMillisecond};
  ::nanosleep(&time, nullptr);
}

bool is_system() { return ::geteuid() == 0 && in_initial_user_namespace(); }

// First without O_CREAT: in a sticky folder the kernel refuses to create over others' files
// (fs.protected_regular), even to root.
Result<Fd> open_lock(const std::string& path) {
  for (int tries = 0;; ++tries) {
    Fd lock(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!lock && errno == ENOENT) {
      lock = Fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_CREAT | O_EXCL, kFileMode));
      if (!lock && errno == EEXIST && tries == 0) continue;
      if (lock) (void)::fchmod(lock.get(), kFileMode);  // whatever the umask: others must open it
    }
    if (!lock) return fail_errno(path);
    struct stat status {};
    if (::fstat(lock.get(), &status) != 0) return fail_errno(path);
    // A second name of somebody's file: where the kernel lets users make such links
    // (fs.protected_hardlinks=0), signing the lock would overwrite it.
    if (!S_ISREG(status.st_mode) || status.st_nlink > 1)
      return fail(ErrorCode::invalid, path + ": expected a file of its own");
    // A user who owns it could remove it, and whoever comes next would lock another file.
    if (is_system() && status.st_uid != 0) (void)::fchown(lock.get(), 0, 0);
    return lock;
  }
}

// A file that was removed meanwhile is another lock than the one that others now open.
bool still_named(const Fd& lock, const std::string& path) {
  struct stat ours {};
  struct stat named {};
  return ::fstat(lock.get(), &ours) == 0 && ::stat(path.c_str(), &named) == 0 &&
         ours.st_dev == named.st_dev && ours.st_ino == named.st_ino;
}

Json content_of(const Fd& lock) {
  std::string text(kContentBytesMax, '\0');
  const ssize_t count = ::pread(lock.get(), text.data(), text.size(), 0);
  if (count <= 0) return nullptr;
  text.resize(static_cast<std::size_t>(count));
  auto document = Json::parse(text);
  return document ? *document : Json(nullptr);
}

// Processes of the last holder that have not gone yet.
bool still_used(const Json& content) {
  if (populated(pid_namespace_from(content["pid_namespace"].as_string()))) return true;
  const std::string& cgroup = content["cgroup"].as_string();
  if (!cgroup.starts_with(kCgroups) || cgroup.find("..") != std::string::npos) return false;
  const auto empty = cgroup_empty({.v2 = cgroup, .v1 = {}});
  return empty && !*empty;
}

// "1: FLOCK  ADVISORY  WRITE 4711 00:1a:6789 0 EOF" (proc_locks(5)): the process with the lock of
// this file; 0 where it is not seen from here.
pid_t process_with(const Fd& lock) {
  struct stat status {};
  const auto text = read_file("/proc/locks");
  if (!text || ::fstat(lock.get(), &status) != 0) return 0;
  const std::string inode = ":" + std::to_string(status.st_ino);
  for (const std::string& line : split(*text, '\n')) {
    std::vector<std::string> words = split(line, ' ');
    std::erase(words, "");
    if (words.size() < 6 || words[1] != "FLOCK" || !words[5].ends_with(inode)) continue;
    pid_t pid = 0;
    std::from_chars(words[4].data(), words[4].data() + words[4].size(), pid);
    if (pid > 0) return pid;
  }
  return 0;
}

LockHolder holder_of(const Fd& lock) {
  const Json content = content_of(lock);
  const pid_t pid = process_with(lock);
  const std::string process = pid > 0 ? "process " + std::to_string(pid) : "";
  // What the file says is its last holder's word: another process that has it now wrote nothing.
  const bool said_so = pid == 0 || content["pid"].as_int() == pid;
  const std::string words =
      said_so ? printable(content["words"].as_string().substr(0, kWordsBytesMax)) : "";
  if (words.empty()) return {process.empty() ? "another node" : process, pid};
  return {words + (process.empty() ? "" : ", " + process), pid};
}

Result<void> sign(const Fd& lock, const LockOwner& owner) {
  const std::string text = Json::object({{"pid", ::getpid()},
                                         {"words", owner.words},
                                         {"cgroup", owner.cgroup},
                                         {"pid_namespace", owner.pid_namespace.known() ? to_text(owner.pid_namespace) : ""}})
                               .dump();
  if (::ftruncate(lock.get(), 0) != 0 ||
      ::pwrite(lock.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
    return fail_errno("write who holds the device");
  return {};
}

struct Taken {
  std::vector<Fd> locks;
  LockHolder holder;  // of one that could not be had
};

// What can be had of them now.
Result<Taken> try_all(const std::string& folder, const DeviceLock& lock) {
  Taken taken;
  for (const std::string& name : lock.names) {
    if (taken.locks.size() == lock.count) break;
    const std::string path = folder + "/" + name;
    Fd file = LOAM_TRY(open_lock(path));
    if (::flock(file.get(), (lock.shared ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return fail_errno("lock " + path);
      taken.holder = holder_of(file);
    } else if (!still_named(file, path)) {
      taken.holder.words = "a node that is just starting";
    } else if (const Json content = content_of(file); still_used(content)) {
      taken.holder.words =
          "what is left of " + printable(content["words"].as_string().substr(0, kWordsBytesMax));
    } else {
      taken.locks.push_back(std::move(file));
    }
  }
  return taken;
}

}  // namespace

Result<void> make_lock_folder(const std::string& folder) {
  const std::string mend =
      "; mend: sudo install -d -m 1777 " + folder + " (a system node does it at its start)";
  if (::mkdir(folder.c_str(), 0700) == 0) {
    if (::chmod(folder.c_str(), kFolderMode) != 0) return fail_errno(folder);
    return {};
  }
  if (errno != EEXIST) return fail(ErrorCode::unavailable, fail_errno(folder).value().text + mend);
  const Fd place = LOAM_TRY(open_file(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  struct stat status {};
  if (::fstat(place.get(), &status) != 0) return fail_errno(folder);
  if ((status.st_mode & 07777) == kFolderMode && (status.st_uid == 0 || !is_system())) return {};
  if ((is_system() && ::fchown(place.get(), 0, 0) != 0) ||
      ::fchmod(place.get(), kFolderMode) != 0)
    return fail(ErrorCode::unavailable, folder + " is not open to every user's node" + mend);
  return {};
}

Result<std::vector<Fd>> take_device_lock(const std::string& folder, const DeviceLock& lock,
                                         const LockOwner& owner, std::int64_t limit_ms) {
  const std::int64_t until_ns = steady_ns() + limit_ms * kMillisecond;
  for (;;) {
    Taken taken = LOAM_TRY(try_all(folder, lock));
    if (taken.locks.size() == lock.count) {
      if (!lock.shared) LOAM_CHECK(sign_device_locks(taken.locks, owner));
      return std::move(taken.locks);
    }
    if (steady_ns() >= until_ns)
      return fail(ErrorCode::busy, lock.device + " is held by " + taken.holder.words);
    taken.locks.clear();
    pause_ms(kPauseMs);
  }
}

Result<void> sign_device_locks(const std::vector<Fd>& locks, const LockOwner& owner) {
  for (const Fd& lock : locks) LOAM_CHECK(sign(lock, owner));
  return {};
}

std::optional<LockHolder> lock_holder(const std::string& folder, const DeviceLock& lock,
                                      std::int64_t patience_ms) {
  const std::int64_t until_ns = steady_ns() + patience_ms * kMillisecond;
  for (;;) {
    auto taken = try_all(folder, lock);
    if (!taken && taken.error().code == ErrorCode::not_found) return std::nullopt;  // no folder yet
    if (!taken) return LockHolder{taken.error().text, 0};
    if (taken->locks.size() == lock.count) return std::nullopt;
    if (steady_ns() >= until_ns) {
      // Another thread of ours that only looks: no shim, and no node but this one.
      if (taken->holder.pid == ::getpid()) return std::nullopt;
      return std::move(taken->holder);
    }
    taken->locks.clear();
    pause_ms(kPauseMs);
  }
}

}  // namespace loam::sandbox
