// The second half of TreeStage: from staged objects to a tree with a name.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/crash_point.h"
#include "base/text.h"
#include "store/listing.h"
#include "store/tree_stage.h"

namespace loam::store {
namespace {

// Up to so many new files and folders are synced one by one; above, one syncfs is faster, though it
// also writes what others have dirty on that filesystem.
constexpr std::size_t kSyncEachMax = 16;
constexpr std::size_t kCopyBytes = 1u << 20;

Fd open_below(int folder, const std::string& path, int flags) {
  return Fd(::openat(folder, path.empty() ? "." : path.c_str(), flags | O_NOFOLLOW | O_CLOEXEC));
}

}  // namespace

Result<TreeInfo> TreeStage::commit() {
  if (workers_) LOAM_CHECK(workers_->finish());
  for (Task& task : held_) name_bytes(*task.node, task.content.bytes);
  const std::vector<ListingEntry> all = entries();
  const std::string text = listing_text(all);
  if (text.size() > kListingBytesMax)
    return fail(ErrorCode::too_large, "its listing is over 1 GiB");
  TreeInfo info = info_of(all);
  info.digest = sha256_of(text);
  info.skipped = skipped_;
  info.skipped_names = skipped_names_;
  {
    const MutexLock lock(layout_.names);
    struct stat status {};
    if (::fstatat(layout_.trees.get(), info.digest.hex().c_str(), &status, 0) == 0) {
      layout_.pins->note_put(info.digest);
      return info;
    }
  }
  LOAM_CHECK(make_stage());
  for (const Task& task : held_) LOAM_CHECK(stage_bytes(*task.node, task.content.bytes));
  const MutexLock lock(mutex_);
  LOAM_CHECK(build_tree());
  const Fd listing = LOAM_TRY(disk_.create(stage_.get(), "listing"));
  if (const int error = disk_.write(listing.get(), std::as_bytes(std::span(text))); error != 0)
    return disk_.failed(error, "listings");
  const Fd tree = open_below(stage_.get(), "tree", O_RDONLY | O_DIRECTORY);
  if (!tree) return disk_.failed(errno, "temp");
  LOAM_CHECK(sync(tree.get(), listing.get()));
  LOAM_CRASH_POINT("store.tree_synced");
  LOAM_CHECK(name_objects());
  LOAM_CRASH_POINT("store.objects_named");
  LOAM_CHECK(name_tree(info.digest));
  LOAM_CRASH_POINT("store.tree_named");
  info.added_bytes = fresh_bytes();
  return info;
}

std::uint64_t TreeStage::fresh_bytes() const {
  std::set<Digest> left = fresh_;
  std::uint64_t bytes = 0;
  for (const auto& [path, node] : nodes_)
    if (left.erase(node.entry.object) > 0) bytes += node.entry.size_bytes;
  return bytes;
}

std::vector<ListingEntry> TreeStage::entries() const {
  std::vector<ListingEntry> all;
  all.reserve(nodes_.size());
  for (const auto& [path, node] : nodes_) {  // a map: in order of the paths' bytes
    ListingEntry entry = node.entry;
    if (node.link != nullptr) {
      entry.size_bytes = node.link->entry.size_bytes;
      entry.content = node.link->entry.content;
      entry.object = node.link->entry.object;
    }
    all.push_back(std::move(entry));
  }
  return all;
}

// Parents come before their children; folders get their own metadata last, since a child would
// change their times and a read-only mode is in the way of no child.
Result<void> TreeStage::build_tree() {
  if (const int error = disk_.make_folder(stage_.get(), "tree"); error != 0)
    return disk_.failed(error, "temp");
  const Fd tree = open_below(stage_.get(), "tree", O_RDONLY | O_DIRECTORY);
  if (!tree) return disk_.failed(errno, "temp");
  for (const auto& [path, node] : nodes_) {
    int error = 0;
    switch (node.entry.type) {
      case ListingEntry::Type::folder:
        if (!path.empty()) error = disk_.make_folder(tree.get(), path);
        break;
      case ListingEntry::Type::symlink:
        error = disk_.symlink(node.entry.target, tree.get(), path);
        if (error == 0)
          error = disk_.set_symlink_meta(tree.get(), path, node.entry.uid, node.entry.gid);
        break;
      case ListingEntry::Type::file:
        LOAM_CHECK(build_file(tree.get(), node));
        break;
    }
    if (error != 0) return disk_.failed(error, path);
  }
  return finish_folders(tree.get());
}

// Empty files are made, not linked: thousands of empty __init__.py would use up one object's links,
// and there is no content to share.
Result<void> TreeStage::build_file(int tree, const Node& node) {
  const ListingEntry& entry = node.link != nullptr ? node.link->entry : node.entry;
  const std::string& path = node.entry.path;
  if (entry.size_bytes == 0) {
    const Fd fd = LOAM_TRY(disk_.create(tree, path));
    if (const int error = apply_meta(disk_, fd.get(), node.meta); error != 0)
      return disk_.failed(error, path);
    return {};
  }
  int error = disk_.link(objects_.get(), entry.object.hex(), tree, path);
  if (error == EMLINK) {
    LOAM_CHECK(copy_object(node.link != nullptr ? *node.link : node));
    error = disk_.link(objects_.get(), entry.object.hex(), tree, path);
  }
  if (error != 0) return disk_.failed(error, path);
  return {};
}

// A fresh copy of a staged object whose links are used up; takes its name in the stage, and later
// in the store.
Result<void> TreeStage::copy_object(const Node& node) {
  const std::string name = node.entry.object.hex();
  const Fd from = open_below(objects_.get(), name, O_RDONLY);
  if (!from) return disk_.failed(errno, "temp");
  const Fd to = LOAM_TRY(disk_.create(objects_.get(), "copy"));
  std::vector<std::byte> buffer(kCopyBytes);
  for (std::size_t count = 1; count > 0;) {
    if (const int error = disk_.read(from.get(), buffer, count); error != 0)
      return disk_.failed(error, "temp");
    if (const int error = disk_.write(to.get(), std::span(buffer).first(count)); error != 0)
      return disk_.failed(error, "temp");
  }
  if (const int error = apply_meta(disk_, to.get(), node.meta); error != 0)
    return disk_.failed(error, node.entry.path);
  if (const int error = disk_.rename(objects_.get(), "copy", objects_.get(), name); error != 0)
    return disk_.failed(error, "temp");
  fresh_.insert(node.entry.object);
  return {};
}

Result<void> TreeStage::finish_folders(int tree) {
  for (auto at = nodes_.rbegin(); at != nodes_.rend(); ++at) {
    if (at->second.entry.type != ListingEntry::Type::folder) continue;
    const Fd folder = open_below(tree, at->first, O_RDONLY | O_DIRECTORY);
    if (!folder) return disk_.failed(errno, at->first);
    if (const int error = apply_meta(disk_, folder.get(), at->second.meta); error != 0)
      return disk_.failed(error, at->first);
  }
  return {};
}

Result<void> TreeStage::sync(int tree, int listing) {
  std::size_t loose = fresh_.size();
  for (const auto& [path, node] : nodes_)
    if (node.entry.type == ListingEntry::Type::folder || node.entry.size_bytes == 0) ++loose;
  if (loose <= kSyncEachMax) return sync_each(tree, listing);
  if (const int error = disk_.sync_all(listing); error != 0) return disk_.failed(error, "sync");
  return {};
}

Result<void> TreeStage::sync_each(int tree, int listing) {
  const auto sync_one = [&](const Fd& fd) { return fd ? disk_.sync(fd.get()) : errno; };
  int error = disk_.sync(listing);
  for (const Digest& object : fresh_)
    if (error == 0) error = sync_one(open_below(objects_.get(), object.hex(), O_RDONLY));
  for (auto at = nodes_.rbegin(); error == 0 && at != nodes_.rend(); ++at) {
    const ListingEntry& entry = at->second.entry;
    if (entry.type == ListingEntry::Type::folder)
      error = sync_one(open_below(tree, at->first, O_RDONLY | O_DIRECTORY));
    if (entry.type == ListingEntry::Type::file && entry.size_bytes == 0 &&
        at->second.link == nullptr)
      error = sync_one(open_below(tree, at->first, O_RDONLY));
  }
  if (error != 0) return disk_.failed(error, "sync");
  return {};
}

// An object that another thread named meanwhile is replaced by its equal; its links elsewhere stay.
// The names need no sync of their own: an object whose name is lost is only stored once more,
// later.
Result<void> TreeStage::name_objects() {
  for (const Digest& object : fresh_) {
    const std::string to = Layout::spread(object);
    if (const int error = disk_.rename(objects_.get(), object.hex(), layout_.objects.get(), to);
        error != 0)
      return disk_.failed(error, "objects/" + to);
  }
  return {};
}

Result<void> TreeStage::name_tree(const Digest& digest) {
  const std::string hex = digest.hex();
  const MutexLock lock(layout_.names);
  int error = disk_.rename(stage_.get(), "listing", layout_.listings.get(), hex);
  if (error == 0) error = disk_.sync(layout_.listings.get());
  if (error != 0) return disk_.failed(error, "listings/" + hex);
  error = disk_.rename(stage_.get(), "tree", layout_.trees.get(), hex);
  // Another thread put the same tree meanwhile: a folder that is not empty cannot be replaced.
  if (error == ENOTEMPTY || error == EEXIST) error = 0;
  if (error == 0) error = disk_.sync(layout_.trees.get());
  if (error != 0) return disk_.failed(error, "trees/" + hex);
  layout_.pins->note_put(digest);
  return {};
}

}  // namespace loam::store
