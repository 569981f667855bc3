// What a caller may do beside what is his own: docs/users.md.
//
//   root of a system's node   reads and does everything
//   an admin                  acts on everybody's jobs and on devices; reads what the queue shows
//   anybody else              his own
//   a token                   at most its user, and no more than its scope: read, submit, admin
//   a user's own node         is its user's, who is all of this at once where nobody else can call
#pragma once

#include <set>
#include <string>

#include "base/result.h"
#include "node/http_server.h"
#include "node/paths.h"
#include "spec/node_config.h"

namespace loam::node {

// `admins:` of the configuration, as ids.
struct AdminIds {
  std::set<std::uint32_t> groups, users;
};
// invalid: a name that this machine does not know, or a node that serves one user alone.
Result<AdminIds> admin_ids(const spec::Admins& admins, const Identity& identity);

// Root, on a node that users share. On a user's own node nobody: there is nobody else to stand over.
bool is_root(const Identity& identity, const Caller& caller);
// Root too.
bool is_admin(const Identity& identity, const AdminIds& admins, const Caller& caller);
// Whom this node belongs to: root, or its user.
bool is_owner(const Identity& identity, const Caller& caller);

}  // namespace loam::node
