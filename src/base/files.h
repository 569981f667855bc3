// Small whole-file operations. Paths are Loam's own (state, store): paths of users are opened by a
// child with the user's ids, never through here.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace loam {

inline constexpr std::size_t kSmallFileBytesMax = 16u << 20;

// Whole file, at most size_bytes_max (else too_large).
Result<std::string> read_file(const std::string& path, std::size_t size_bytes_max = kSmallFileBytesMax);
Result<std::string> read_fd(int fd, std::size_t size_bytes_max = kSmallFileBytesMax);

struct WriteOptions {
  mode_t mode = 0600;
  bool durable = true;  // fsync of file and folder
};
// temp beside it, write, fsync, rename, fsync of the folder: the old or the new content, never half.
Result<void> write_file_atomic(const std::string& path, std::string_view content, WriteOptions options = {});

// mkdir -p; folders that are made get `mode`.
Result<void> make_folders(const std::string& path, mode_t mode = 0700);
Result<void> sync_folder(const std::string& path);
// rm -rf that never follows a symlink and never leaves the filesystem (a mount below is EBUSY).
Result<void> remove_tree(const std::string& path);
bool path_exists(const std::string& path);
// Names in a folder, sorted, without . and ..
Result<std::vector<std::string>> list_folder(const std::string& path);
Result<Fd> open_file(const std::string& path, int flags, mode_t mode = 0);

// The folder of the running program ("/usr/bin"), and its siblings' data ("/usr/share/loam").
std::string program_folder();
std::string program_share_folder();

}  // namespace loam
