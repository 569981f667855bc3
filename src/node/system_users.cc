#include "node/system_users.h"

#include <grp.h>
#include <pwd.h>

#include <cerrno>
#include <map>

#include "base/clock.h"
#include "base/mutex.h"

namespace loam::node {
namespace {

constexpr std::size_t kEntryBytesMax = 1u << 20;
constexpr std::int64_t kKnownNs = 60'000'000'000;
constexpr std::size_t kKnownMax = 4096;

struct Known {
  SystemUser user;
  std::int64_t since_ns = 0;
};

struct Memory {
  Mutex mutex;
  std::map<std::uint32_t, Known> users LOAM_GUARDED_BY(mutex);
};

Memory& memory() {
  static auto* made = new Memory;  // outlives every thread
  return *made;
}

}  // namespace

Result<SystemUser> look_up_user(std::uint32_t uid) {
  std::vector<char> buffer(16u << 10);
  passwd entry{};
  passwd* found = nullptr;
  int error = 0;
  while ((error = ::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found)) == ERANGE &&
         buffer.size() < kEntryBytesMax)
    buffer.resize(buffer.size() * 4);
  if (found != nullptr) return SystemUser{uid, entry.pw_gid, entry.pw_name, entry.pw_dir};
  // getpwuid(3): these, too, mean that there is none.
  if (error == 0 || error == ENOENT || error == ESRCH || error == EBADF || error == EPERM)
    return fail(ErrorCode::not_found, "no user of this machine has the number " + std::to_string(uid));
  return fail(ErrorCode::unavailable, "the machine's name service does not answer; try again");
}

std::vector<std::uint32_t> look_up_groups(const SystemUser& user) {
  std::vector<gid_t> groups(64);
  int count = static_cast<int>(groups.size());
  while (::getgrouplist(user.name.c_str(), user.gid, groups.data(), &count) < 0)
    groups.resize(static_cast<std::size_t>(count) + 1), count = static_cast<int>(groups.size());
  groups.resize(static_cast<std::size_t>(count));
  return groups;
}

Result<SystemUser> known_user(std::uint32_t uid) {
  Memory& known = memory();
  const std::int64_t now_ns = boottime_ns();
  {
    const MutexLock lock(known.mutex);
    if (const auto found = known.users.find(uid);
        found != known.users.end() && now_ns - found->second.since_ns < kKnownNs)
      return found->second.user;
  }
  auto asked = look_up_user(uid);
  const MutexLock lock(known.mutex);
  if (known.users.size() >= kKnownMax) known.users.clear();
  const auto last = known.users.find(uid);
  if (asked) {
    known.users.insert_or_assign(uid, Known{*asked, now_ns});
  } else if (last != known.users.end() && asked.error().code == ErrorCode::unavailable) {
    last->second.since_ns = now_ns;
    return last->second.user;
  } else {
    known.users.erase(uid);  // he may be made at any moment
  }
  return asked;
}

std::string user_name(std::uint32_t uid) {
  const auto user = known_user(uid);
  return user ? user->name : "uid-" + std::to_string(uid);
}

}  // namespace loam::node
