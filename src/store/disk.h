// The seam between the store and the disk: every call that changes the disk, or reads what enters
// the store, goes through a Disk, so that a test can make call n fail (or the process die there)
// for each n.
//
// Methods return 0 or an errno value; failed() turns one into an Error that names the path and, on
// a full disk, the space left. Threads: stateless but for the fault, which must be safe to call
// anywhere.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace loam::store {

class Disk {
 public:
  // Called before each call with its name and path; an errno value makes the call fail with it.
  using Fault = std::function<int(std::string_view call, std::string_view path)>;

  explicit Disk(std::string root, Fault fault = {})
      : root_(std::move(root)), fault_(std::move(fault)) {}

  // O_CREAT | O_EXCL | O_RDWR, mode 0600: its final mode comes with its other metadata.
  Result<Fd> create(int folder, const std::string& name) const;
  int make_folder(int folder, const std::string& name) const;  // 0700
  int symlink(const std::string& target, int folder, const std::string& name) const;
  int link(int from_folder, const std::string& from, int to_folder, const std::string& to) const;
  int rename(int from_folder, const std::string& from, int to_folder, const std::string& to) const;
  int unlink(int folder, const std::string& name) const;
  int write(int fd, std::span<const std::byte> bytes) const;  // all of them
  int sync(int fd) const;                                     // fsync
  int sync_all(int fd) const;                                 // syncfs of fd's filesystem
  int clone(int from, int to) const;                          // FICLONE: shares the blocks
  int set_owner(int fd, uid_t uid, gid_t gid) const;  // recorded ids (owners.h)
  int set_mode(int fd, mode_t mode) const;
  int set_xattr(int fd, const std::string& name, std::string_view value) const;
  int set_time(int fd) const;  // the store's one mtime
  int set_symlink_meta(int folder, const std::string& name, uid_t uid, gid_t gid) const;
  // The bytes read go to `done`; 0 is the end of the file.
  int read(int fd, std::span<std::byte> buffer, std::size_t& done) const;

  std::uint64_t free_bytes() const;
  tl::unexpected<Error> failed(int error_number, std::string_view path) const;

 private:
  int before(std::string_view call, std::string_view path) const {
    return fault_ ? fault_(call, path) : 0;
  }

  std::string root_;
  Fault fault_;
};

}  // namespace loam::store
