// The canonical listing that names a tree: one line per entry, sorted bytewise by path, so that
// equal trees give equal bytes. Format: docs/formats/store.md, "Listings".
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "store/store.h"

namespace loam::store {

inline constexpr std::size_t kTreeEntriesMax = 4'000'000;
inline constexpr std::size_t kListingBytesMax = std::size_t{1} << 30;
inline constexpr std::size_t kPathBytesMax =
    4000;  // below PATH_MAX, with room for the store's own part
inline constexpr std::size_t kComponentBytesMax = 255;  // NAME_MAX
inline constexpr std::size_t kPathDepthMax = 256;
inline constexpr std::size_t kTargetBytesMax = 4095;  // of a symlink

// `entries` sorted by path.
std::string listing_text(const std::vector<ListingEntry>& entries);
// Size and files; the digest is left to the caller.
TreeInfo info_of(const std::vector<ListingEntry>& entries);
Result<std::vector<ListingEntry>> parse_listing(std::string_view text);

// Relative, no empty, "." or ".." component, within the limits; "" (the top folder) is right too.
Result<void> check_path(std::string_view path);

}  // namespace loam::store
