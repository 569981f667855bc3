#include "node/rights.h"

#include <grp.h>
#include <pwd.h>

#include <algorithm>
#include <vector>

#include "base/text.h"

namespace loam::node {
namespace {

constexpr std::size_t kEntryBytesMax = 1u << 20;  // a group names all its members

// getgrnam_r(3), getpwnam_r(3): with more room until the entry fits.
template <typename Entry, typename Lookup>
bool look_up(const std::string& name, Entry& entry, Lookup lookup) {
  std::vector<char> buffer(16u << 10);
  Entry* found = nullptr;
  while (lookup(name.c_str(), &entry, buffer.data(), buffer.size(), &found) == ERANGE &&
         buffer.size() < kEntryBytesMax)
    buffer.resize(buffer.size() * 4);
  return found != nullptr;
}

}  // namespace

Result<AdminIds> admin_ids(const spec::Admins& admins, const Identity& identity) {
  AdminIds ids;
  if (admins.groups.empty() && admins.users.empty()) return ids;
  if (identity.rootless)
    return fail(ErrorCode::invalid,
                "a user's own node serves nobody else; admins are of a system's node");
  for (const std::string& name : admins.groups) {
    group entry{};
    if (!look_up(name, entry, ::getgrnam_r))
      return fail(ErrorCode::invalid, "this machine has no group '" + printable(name) +
                                          "'; mend: groupadd --system " + printable(name));
    ids.groups.insert(entry.gr_gid);
  }
  for (const std::string& name : admins.users) {
    passwd entry{};
    if (!look_up(name, entry, ::getpwnam_r))
      return fail(ErrorCode::invalid, "this machine has no user '" + printable(name) + "'");
    ids.users.insert(entry.pw_uid);
  }
  return ids;
}

bool is_root(const Identity& identity, const Caller& caller) {
  return caller.uid == 0 && caller.scope == Scope::admin && !identity.rootless;
}

bool is_admin(const Identity& identity, const AdminIds& admins, const Caller& caller) {
  if (caller.scope != Scope::admin) return false;
  if (is_root(identity, caller) || admins.users.contains(caller.uid)) return true;
  return admins.groups.contains(caller.gid) ||
         std::any_of(caller.groups.begin(), caller.groups.end(),
                     [&](std::uint32_t group) { return admins.groups.contains(group); });
}

bool is_owner(const Identity& identity, const Caller& caller) {
  return caller.scope == Scope::admin && caller.uid == (identity.rootless ? identity.owner_uid : 0);
}

}  // namespace loam::node
