// User namespaces as descriptors: what an idmapped mount or a build is given.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace loam::sandbox {

struct IdMapLine {
  std::uint32_t inside = 0;
  std::uint32_t outside = 0;
  std::uint32_t count = 0;
};

// A namespace with these maps, held by the descriptor alone. Each map is one write(2), as the
// kernel demands; by a parent with CAP_SETUID and CAP_SETGID over the ids (user_namespaces(7)).
Result<Fd> make_user_namespace(const std::vector<IdMapLine>& uids,
                               const std::vector<IdMapLine>& gids);

// 0↔id: root's files show as the user's and the user's as root's; all other ids stay what they are.
std::vector<IdMapLine> swapped_with_root(std::uint32_t id);

// Whether this process sees the ids of the initial user namespace, all of them.
bool in_initial_user_namespace();

}  // namespace loam::sandbox
