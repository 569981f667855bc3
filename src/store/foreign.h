// What lies in the store's folders and is not the store's own: somebody put it there by hand, or a tool did (.nfs…,
// lost+found, an editor's copy). It is named to whoever asks about the store, and neither counted, checked nor removed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "store/layout.h"

namespace loam::store {

inline constexpr std::size_t kForeignNamedMax = 100;

bool is_digest_name(std::string_view name);  // of trees/ and listings/
bool is_spread_file(std::string_view name);  // of objects/ab/ and blobs/ab/
bool is_copy_name(std::string_view name);    // DIGEST-UID-GID

// One of the folders of objects/ or blobs/; empty where the name is none of theirs, or no folder's.
Result<Fd> open_spread(const Fd& top, const std::string& name);

// "objects/notes.txt", "blobs/ab/x", "trees/old", at most kForeignNamedMax.
Result<std::vector<std::string>> foreign_names(const Layout& layout);

}  // namespace loam::store
