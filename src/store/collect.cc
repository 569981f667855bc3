// collect(): trees, copies and blobs that no root names and no pin holds lose their names; objects
// that no tree links go last.
//
//   trees/X ─rename▶ temp/ ─▶ its listing ─▶ removed     objects: st_nlink == 1 ─▶ removed
//
// A put that runs meanwhile keeps what it needs by links in its stage (tree_stage.h).
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "base/crash_point.h"
#include "base/files.h"
#include "store/folder_names.h"
#include "store/foreign.h"
#include "store/layout.h"

namespace loam::store {
namespace {

constexpr std::size_t kNamesMax = 100'000'000;

class Collector {
 public:
  Collector(Layout& layout, const Roots& roots, bool dry_run)
      : layout_(layout), disk_(layout.disk), roots_(roots), dry_run_(dry_run) {}

  Result<GarbageReport> run() {
    LOAM_CHECK(copies());
    LOAM_CHECK(trees());
    LOAM_CHECK(listings());
    LOAM_CHECK(objects());
    LOAM_CHECK(blobs());
    report_.foreign = LOAM_TRY(foreign_names(layout_));
    return report_;
  }

 private:
  bool keeps_tree(const Digest& digest) const {
    return roots_.trees.contains(digest) || layout_.pins->holds(digest);
  }

  // Takes a folder's name away in one step, then what is below it.
  Result<void> remove_folder(const Fd& parent, const std::string& name) {
    const std::string doomed = layout_.temp_name();
    if (const int error = disk_.rename(parent.get(), name, layout_.temp.get(), doomed); error != 0)
      return error == ENOENT ? Result<void>() : disk_.failed(error, name);
    doomed_.push_back(std::make_unique<TempGuard>(layout_, doomed));
    return {};
  }

  Result<void> copies() {
    for (const std::string& name : LOAM_TRY(names_in(layout_.copies.get(), kNamesMax))) {
      if (!is_copy_name(name)) continue;
      const auto digest = Digest::parse(name.substr(0, 64));
      const MutexLock lock(layout_.names);
      if (digest && keeps_tree(*digest)) continue;
      report_.freed_bytes += LOAM_TRY(own_bytes(layout_.path + "/copies/" + name));
      if (!dry_run_) LOAM_CHECK(remove_folder(layout_.copies, name));
    }
    doomed_.clear();
    return {};
  }

  Result<void> trees() {
    for (const std::string& name : LOAM_TRY(names_in(layout_.trees.get(), kNamesMax))) {
      if (!is_digest_name(name)) continue;
      const auto digest = Digest::parse(name);
      const MutexLock lock(layout_.names);
      if (digest && keeps_tree(*digest)) continue;
      ++report_.removed_trees;
      if (dry_run_) {
        LOAM_CHECK(count_links(layout_.path + "/trees/" + name));
      } else {
        LOAM_CHECK(remove_folder(layout_.trees, name));
      }
    }
    if (dry_run_) return {};
    // Before the listings go: a tree that is still there after a power cut must have its own.
    if (const int error = disk_.sync(layout_.trees.get()); error != 0)
      return disk_.failed(error, "trees");
    LOAM_CRASH_POINT("store.trees_unnamed");
    doomed_.clear();
    return {};
  }

  Result<void> listings() {
    if (dry_run_) return {};
    for (const std::string& name : LOAM_TRY(names_in(layout_.listings.get(), kNamesMax))) {
      if (!is_digest_name(name)) continue;
      const MutexLock lock(layout_.names);
      if (::faccessat(layout_.trees.get(), name.c_str(), F_OK, 0) == 0) continue;
      if (const int error = disk_.unlink(layout_.listings.get(), name);
          error != 0 && error != ENOENT)
        return disk_.failed(error, "listings/" + name);
    }
    return {};
  }

  template <class Visit>  // visit(folder's fd, name in it, status, "ab/cdef…")
  Result<void> each_spread(const Fd& top, Visit visit) {
    for (const std::string& prefix : LOAM_TRY(names_in(top.get(), kNamesMax))) {
      const Fd folder = LOAM_TRY(open_spread(top, prefix));
      if (!folder) continue;
      for (const std::string& name : LOAM_TRY(names_in(folder.get(), kNamesMax))) {
        struct stat status {};
        if (!is_spread_file(name) || ::fstatat(folder.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISREG(status.st_mode))
          continue;
        LOAM_CHECK(visit(folder, name, status, prefix + name));
      }
    }
    return {};
  }

  // Between the look at the link count and the unlink a put may link the object into its stage: it
  // then keeps the file, and only the name is lost.
  Result<void> objects() {
    return each_spread(layout_.objects,
                       [this](const Fd& folder, const std::string& name, const struct stat& status,
                              const std::string&) -> Result<void> {
                         const auto lost = links_lost_.find(status.st_ino);
                         const nlink_t links =
                             status.st_nlink - (lost == links_lost_.end() ? 0 : lost->second);
                         if (links > 1) return {};
                         return remove_file(folder, name, status, report_.removed_objects);
                       });
  }

  Result<void> blobs() {
    return each_spread(
        layout_.blobs,
        [this](const Fd& folder, const std::string& name, const struct stat& status,
               const std::string& hex) -> Result<void> {
          const auto digest = Digest::parse(hex);
          const MutexLock lock(layout_.names);
          if (digest && (roots_.blobs.contains(*digest) || layout_.pins->holds(*digest))) return {};
          return remove_file(folder, name, status, report_.removed_blobs);
        });
  }

  Result<void> remove_file(const Fd& folder, const std::string& name, const struct stat& status,
                           std::uint64_t& removed) {
    ++removed;
    report_.freed_bytes += static_cast<std::uint64_t>(status.st_size);
    if (dry_run_) return {};
    if (const int error = disk_.unlink(folder.get(), name); error != 0 && error != ENOENT)
      return disk_.failed(error, name);
    return {};
  }

  // For a dry run: how many links each object would lose with this tree.
  Result<void> count_links(const std::string& tree) {
    return each_file(tree, [this](const struct stat& status) { ++links_lost_[status.st_ino]; });
  }

  Result<std::uint64_t> own_bytes(const std::string& folder) {
    std::uint64_t bytes = 0;
    LOAM_CHECK(each_file(folder, [&](const struct stat& status) {
      bytes += static_cast<std::uint64_t>(status.st_size);
    }));
    return bytes;
  }

  template <class Visit>
  Result<void> each_file(const std::string& path, Visit visit) {
    const Fd folder = LOAM_TRY(open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    for (const std::string& name : LOAM_TRY(names_in(folder.get(), kNamesMax))) {
      struct stat status {};
      if (::fstatat(folder.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
      if (S_ISDIR(status.st_mode)) LOAM_CHECK(each_file(path + "/" + name, visit));
      if (S_ISREG(status.st_mode)) visit(status);
    }
    return {};
  }

  Layout& layout_;
  const Disk& disk_;
  const Roots& roots_;
  const bool dry_run_;
  GarbageReport report_;
  std::vector<std::unique_ptr<TempGuard>> doomed_;
  std::map<ino_t, nlink_t> links_lost_;
};

}  // namespace

Result<GarbageReport> Store::collect(const Roots& roots, bool dry_run) {
  const MutexLock lock(impl_->maintenance);
  return Collector(*impl_, roots, dry_run).run();
}

Result<Usage> Store::usage() const {
  Usage usage;
  const auto trees = LOAM_TRY(names_in(impl_->trees.get(), kNamesMax));
  usage.trees = static_cast<std::uint64_t>(std::count_if(trees.begin(), trees.end(), is_digest_name));
  usage.foreign = LOAM_TRY(foreign_names(*impl_));
  const auto count = [&](const Fd& top, std::uint64_t& files) -> Result<void> {
    for (const std::string& prefix : LOAM_TRY(names_in(top.get(), kNamesMax))) {
      const Fd folder = LOAM_TRY(open_spread(top, prefix));
      if (!folder) continue;
      for (const std::string& name : LOAM_TRY(names_in(folder.get(), kNamesMax))) {
        struct stat status {};
        if (!is_spread_file(name) || ::fstatat(folder.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
          continue;
        ++files;
        usage.size_bytes += static_cast<std::uint64_t>(status.st_size);
      }
    }
    return {};
  };
  LOAM_CHECK(count(impl_->objects, usage.objects));
  LOAM_CHECK(count(impl_->blobs, usage.blobs));
  return usage;
}

}  // namespace loam::store
