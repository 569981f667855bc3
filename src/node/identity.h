// With which ids this node works (sandbox.md, "Identity"): a root node reserves a range for `loam`,
// an ordinary user's node becomes 0 of a user namespace over the user's subordinate ids.
//
//   /etc/subuid, /etc/subgid ─ parse ─▶ reserve_ids() (root) │ enter_user_namespace() (rootless) ─▶
//   Identity
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "node/paths.h"
#include "sandbox/build.h"
#include "sandbox/user_namespace.h"

namespace loam::node {

inline constexpr std::uint32_t kBuildIds = 65'536;
inline constexpr std::uint32_t kReservedIds = 2 * kBuildIds;  // build range, then the job id
inline constexpr std::uint32_t kSubordinateIdsMin = 65'536;   // fewer: as if there were none

// Ranges of `owner` (by name or decimal id) in a subuid(5) file, in its order; lines that are no
// entries are passed over, as shadow does.
std::vector<sandbox::IdRange> subordinate_ranges(std::string_view text, const std::string& name,
                                                 std::uint32_t id);
// The first range of kReservedIds from 100,000 on that no entry of either file touches. full: none
// left.
Result<std::uint32_t> free_range(std::string_view subuid, std::string_view subgid);
// The same, from `from` on.
Result<std::uint32_t> free_range(std::string_view subuid, std::string_view subgid,
                                 std::uint32_t from);

// Root node: finds or makes the entries of `loam` in FOLDER/subuid and FOLDER/subgid.
Result<Identity> reserve_ids(const std::string& folder = "/etc");
// Takes the entries away that reserve_ids adds; others of the same name stay. True: there were
// some.
Result<bool> release_ids(const std::string& folder = "/etc");

// The map 0→first subordinate id …, U→U, U+1→the next …: `own` is U.
std::vector<sandbox::IdMapLine> rootless_map(std::uint32_t own,
                                             const std::vector<sandbox::IdRange>& ranges);
// The longest run of mapped ids, as the namespace numbers them, without 0 and U; at most kBuildIds.
sandbox::IdRange rootless_build_range(std::uint32_t own,
                                      const std::vector<sandbox::IdRange>& ranges);

// Rootless node: from now on this process is 0 of its own user and mount namespaces (single_id:
// itself, with all capabilities there). Must be single-threaded. unavailable with the mend where
// the host allows no namespaces.
Result<Identity> enter_user_namespace();
// How a user gets subordinate ids, for people.
std::string subordinate_ids_mend();

}  // namespace loam::node
