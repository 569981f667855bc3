// An object: one regular file of the store. Hard links share metadata, so an object's name covers
// type, mode, ids and xattrs besides the content. Format: docs/formats/store.md, "Objects".
//
// Kept xattrs: security.capability (always in its v2 form) and user.* but for user.overlay.*, which
// would change what an overlay over the tree shows. All others are left behind.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/sha256.h"
#include "store/disk.h"

namespace loam::store {

inline constexpr std::size_t kXattrBytesMax =
    64 * 1024;  // the kernel's own limit for a value and a list

using Xattrs = std::map<std::string, std::string>;

struct Meta {
  std::uint32_t mode = 0644;  // permission, set-id and sticky bits
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  Xattrs xattrs;
};

std::string object_text(const Meta& meta, const Digest& content);
Digest object_name(const Meta& meta, const Digest& content);

bool is_kept_xattr(std::string_view name);
// A file capability as the store keeps it: v2 as it is, v3 of namespace 0 as v2; others are
// invalid. Layout: linux/capability.h, struct vfs_cap_data and vfs_ns_cap_data.
Result<std::string> capability_v2(std::string_view value);
// The kept ones of an open file.
Result<Xattrs> read_xattrs(int fd);
// Owner, xattrs, mode, time, in the order in which none clears another (chown clears set-id bits
// and capabilities).
int apply_meta(const Disk& disk, int fd, const Meta& meta);

}  // namespace loam::store
