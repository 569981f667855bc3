// Mounts as descriptors (open_tree, mount_setattr, move_mount; Linux 5.12), and paths that cannot
// leave the sandbox's root while it is being built.
//
//   clone_tree / new_filesystem ──▶ detached mount (Fd) ── attach ──▶ a target below the new root
//
// Trust: names inside an environment's tree are foreign. Targets are resolved by openat2 with
// RESOLVE_IN_ROOT and without magic links, so that no symlink of a tree leads the mounting process,
// still root, to the host.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace loam::sandbox {

struct MountOptions {
  bool read_only = false;
  bool devices = false;   // false: nodev
  bool recursive = true;  // with the mounts below it
  int user_namespace =
      -1;  // an idmapped mount by this namespace's maps; only detached, only by the initial one
};

// A detached copy of the mount at folder_fd/path ("" : folder_fd itself). Always nosuid, and private:
// whatever is mounted below it later, here or on the host, the other side does not see.
Result<Fd> clone_tree(int folder_fd, const std::string& path, const MountOptions& options);

// The same with the attributes that the mount has already, its propagation too: for mounts of a
// namespace that make_private() went over.
Result<Fd> copy_tree(int folder_fd, const std::string& path);
// Everything mounted below the mount at `path`: read-only, nosuid, nodev. That mount stays
// writable.
Result<void> make_read_only_below(const std::string& path);

using Parameters = std::vector<std::pair<std::string, std::string>>;  // key, value; "" : a flag
// A detached new filesystem, nosuid and nodev unless `options` say otherwise.
Result<Fd> new_filesystem(const char* type, const Parameters& parameters,
                          const MountOptions& options = {});
Result<Fd> new_tmpfs(std::uint64_t size_bytes, mode_t mode, const MountOptions& options = {});

Result<void> attach(int mount, int target);               // onto an O_PATH descriptor
Result<void> attach(int mount, const std::string& path);  // before anything foreign is reachable
Result<void> make_private();                              // this namespace's mounts, all of them
Result<void> change_root(const std::string& new_root);    // pivot_root; the old root is detached

// O_PATH of a path below root; fails where it does not exist.
Result<Fd> open_in_root(int root, const std::string& path);
enum class TargetKind { folder, file };
// The same; a thing of the other kind: invalid.
Result<Fd> find_in_root(int root, const std::string& path, TargetKind kind);
// The same, made where it is missing (folders 0755, files 0644), with this process's rights: only
// while nothing below root is a user's.
Result<Fd> make_in_root(int root, const std::string& path, TargetKind kind);

// The kind of what a descriptor names.
Result<TargetKind> kind_of(int fd);

}  // namespace loam::sandbox
