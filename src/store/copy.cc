// copy_for(): a tree whose files belong to somebody, for hosts that cannot show them so by an
// idmapped mount.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "store/layout.h"
#include "store/listing.h"
#include "store/object.h"

namespace loam::store {
namespace {

constexpr std::size_t kCopyBytes = 1u << 20;
constexpr std::uint32_t kCopiedModeBits = 01777;  // a set-id bit was the old owner's

class TreeCopy {
 public:
  TreeCopy(const Disk& disk, int from, int to, std::uint32_t uid, std::uint32_t gid)
      : disk_(disk), from_(from), to_(to), uid_(uid), gid_(gid) {}

  Result<void> make(const std::vector<ListingEntry>& entries) {
    for (const ListingEntry& entry : entries) {
      int error = 0;
      if (entry.type == ListingEntry::Type::folder) {
        if (!entry.path.empty()) error = disk_.make_folder(to_, entry.path);
      } else if (entry.type == ListingEntry::Type::symlink) {
        error = disk_.symlink(entry.target, to_, entry.path);
        if (error == 0) error = disk_.set_symlink_meta(to_, entry.path, uid_, gid_);
      } else {
        LOAM_CHECK(file(entry));
      }
      if (error != 0) return disk_.failed(error, entry.path);
    }
    for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {  // after their children
      if (entry->type != ListingEntry::Type::folder) continue;
      const std::string path = entry->path.empty() ? "." : entry->path;
      const Fd folder(::openat(to_, path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      const int error = folder ? apply_meta(disk_, folder.get(), meta_of(*entry)) : errno;
      if (error != 0) return disk_.failed(error, entry->path);
    }
    return {};
  }

 private:
  Meta meta_of(const ListingEntry& entry) const {
    Meta meta;
    meta.mode = entry.mode & kCopiedModeBits;
    meta.uid = uid_;
    meta.gid = gid_;
    return meta;
  }

  Result<void> file(const ListingEntry& entry) {
    const Fd source(::openat(from_, entry.path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    if (!source) return disk_.failed(errno, entry.path);
    const Fd copy = LOAM_TRY(disk_.create(to_, entry.path));
    if (entry.size_bytes > 0 && disk_.clone(source.get(), copy.get()) != 0)
      LOAM_CHECK(content(source.get(), copy.get(), entry.path));
    if (const int error = apply_meta(disk_, copy.get(), meta_of(entry)); error != 0)
      return disk_.failed(error, entry.path);
    return {};
  }

  Result<void> content(int source, int copy, const std::string& path) {
    buffer_.resize(kCopyBytes);
    for (std::size_t count = 1; count > 0;) {
      int error = disk_.read(source, buffer_, count);
      if (error == 0) error = disk_.write(copy, std::span(buffer_).first(count));
      if (error != 0) return disk_.failed(error, path);
    }
    return {};
  }

  const Disk& disk_;
  int from_;
  int to_;
  std::uint32_t uid_;
  std::uint32_t gid_;
  std::vector<std::byte> buffer_;
};

}  // namespace

Result<std::string> Store::copy_for(const Digest& tree, std::uint32_t uid, std::uint32_t gid) {
  Impl& impl = *impl_;
  const std::string name = tree.hex() + "-" + std::to_string(uid) + "-" + std::to_string(gid);
  const std::string path = impl.path + "/copies/" + name;
  const auto is_there = [&] { return ::faccessat(impl.copies.get(), name.c_str(), F_OK, 0) == 0; };
  {
    const MutexLock lock(impl.names);
    impl.pins->note_put(tree);
    if (is_there()) return path;
  }
  const std::vector<ListingEntry> entries = LOAM_TRY(listing(tree));
  const Fd from(::openat(impl.trees.get(), tree.hex().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!from) return impl.disk.failed(errno, "trees/" + tree.hex());
  const std::string temp = impl.temp_name();
  const TempGuard guard(impl, temp);
  if (const int error = impl.disk.make_folder(impl.temp.get(), temp); error != 0)
    return impl.disk.failed(error, "temp");
  const Fd to(::openat(impl.temp.get(), temp.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!to) return impl.disk.failed(errno, "temp");
  LOAM_CHECK(TreeCopy(impl.disk, from.get(), to.get(), uid, gid).make(entries));
  if (const int error = impl.disk.sync_all(to.get()); error != 0)
    return impl.disk.failed(error, "sync");
  const MutexLock lock(impl.names);
  const int error = impl.disk.rename(impl.temp.get(), temp, impl.copies.get(), name);
  if (error != 0 && !is_there()) return impl.disk.failed(error, "copies/" + name);
  return path;
}

}  // namespace loam::store
