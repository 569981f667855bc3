#include "store/tree_stage.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/text.h"
#include "store/listing.h"

namespace loam::store {
namespace {

constexpr std::size_t kCopyBytes = 1u << 20;
constexpr std::uint32_t kSetIdBits = 06000;

std::string parent_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

}  // namespace

TreeStage::TreeStage(Layout& layout, TreeOptions options)
    : layout_(layout),
      disk_(layout.disk),
      options_(options),
      temp_name_(layout.temp_name()),
      guard_(layout, temp_name_) {
  nodes_[""].entry.type = ListingEntry::Type::folder;
  nodes_[""].meta.mode = nodes_[""].entry.mode = 0755;
}

TreeStage::~TreeStage() = default;

Result<void> TreeStage::make_stage() {
  if (stage_) return {};
  if (const int error = disk_.make_folder(layout_.temp.get(), temp_name_); error != 0)
    return disk_.failed(error, "temp");
  stage_ = Fd(::openat(layout_.temp.get(), temp_name_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!stage_) return disk_.failed(errno, "temp");
  if (const int error = disk_.make_folder(stage_.get(), "objects"); error != 0)
    return disk_.failed(error, "temp");
  objects_ = Fd(::openat(stage_.get(), "objects", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!objects_) return disk_.failed(errno, "temp");
  return {};
}

Result<void> TreeStage::start_workers() {
  if (workers_) return {};
  LOAM_CHECK(make_stage());
  workers_.emplace([this](Task& task) { return take(task); });
  for (Task& task : std::exchange(held_, {})) LOAM_CHECK(workers_->put(std::move(task)));
  return {};
}

// Trees of one owner hold nobody's rights: a set-id file of a user must not become one of root.
Meta TreeStage::allowed(const Meta& meta) const {
  Meta result = meta;
  result.mode &= 07777;
  if (options_.owner_root) {
    result.mode &= ~kSetIdBits;
    result.uid = result.gid = 0;
    result.xattrs.clear();
  }
  return result;
}

Result<void> TreeStage::make_parents(const std::string& path) {
  const std::string parent = parent_of(path);
  if (parent.empty() || parent == last_parent_) return {};
  const auto found = nodes_.find(parent);
  if (found == nodes_.end()) {
    LOAM_CHECK(make_parents(parent));
    Node& node = nodes_[parent];
    node.entry.type = ListingEntry::Type::folder;
    node.entry.path = parent;
    node.meta.mode = node.entry.mode = 0755;
  } else if (found->second.entry.type != ListingEntry::Type::folder) {
    return fail(ErrorCode::invalid,
                "path '" + printable(path) + "': '" + printable(parent) +
                    "' is not a folder; a path must not lead through a link or a file");
  }
  last_parent_ = parent;
  return {};
}

Result<TreeStage::Node*> TreeStage::new_node(const std::string& path, ListingEntry::Type type,
                                             const Meta& meta) {
  LOAM_CHECK(check_path(path));
  LOAM_CHECK(make_parents(path));
  if (nodes_.size() >= kTreeEntriesMax)
    return fail(ErrorCode::too_large, "more than " + std::to_string(kTreeEntriesMax) + " entries");
  const auto [at, is_new] = nodes_.try_emplace(path);
  Node& node = at->second;
  const bool is_folder = type == ListingEntry::Type::folder;
  if (!is_new && !(is_folder && node.entry.type == ListingEntry::Type::folder))
    return fail(ErrorCode::invalid, "path '" + printable(path) + "': comes twice");
  node.meta = allowed(meta);
  node.entry.type = type;
  node.entry.path = path;
  node.entry.mode = node.meta.mode;
  node.entry.uid = node.meta.uid;
  node.entry.gid = node.meta.gid;
  return &node;
}

Result<void> TreeStage::add_folder(const std::string& path, const Meta& meta) {
  LOAM_CHECK(new_node(path, ListingEntry::Type::folder, meta));
  return {};
}

Result<void> TreeStage::add_symlink(const std::string& path, const Meta& meta,
                                    const std::string& target) {
  if (target.empty() || target.size() > kTargetBytesMax || target.find('\0') != std::string::npos)
    return fail(ErrorCode::invalid,
                "symlink '" + printable(path) + "': no target that a link can have");
  Node* node = LOAM_TRY(new_node(path, ListingEntry::Type::symlink, meta));
  node->entry.mode = 0777;  // Linux keeps no other
  node->entry.target = target;
  return {};
}

Result<void> TreeStage::add_hard_link(const std::string& path, const std::string& target) {
  const auto found = nodes_.find(target);
  if (found == nodes_.end() || found->second.entry.type != ListingEntry::Type::file)
    return fail(ErrorCode::invalid, "hard link '" + printable(path) + "': '" + printable(target) +
                                        "' is no file that came before it");
  Node* first = found->second.link != nullptr ? found->second.link : &found->second;
  Node* node = LOAM_TRY(new_node(path, ListingEntry::Type::file, first->meta));
  node->link = first;
  return {};
}

void TreeStage::skip(const std::string& path) {
  ++skipped_;
  if (!path.empty() && skipped_names_.size() < kSkippedNamesMax) skipped_names_.push_back(path);
}

Result<void> TreeStage::check_size(const std::string& path, std::uint64_t size_bytes) {
  const std::uint64_t file_max = options_.file_size_bytes_max;
  if (file_max != 0 && size_bytes > file_max)
    return fail(ErrorCode::too_large, printable(path) + ": has " + format_size(size_bytes) +
                                          "; a single file may have " + format_size(file_max));
  const std::uint64_t tree_max = options_.size_bytes_max;
  if (tree_max != 0 && (size_bytes > tree_max || size_bytes_ > tree_max - size_bytes))
    return fail(ErrorCode::too_large,
                "over " + format_size(tree_max) + " in all at " + printable(path));
  // A sparse file may claim far more than its blocks: better to refuse it than to fill the disk
  // first.
  if (size_bytes > kSmallFileMax && size_bytes > disk_.free_bytes())
    return disk_.failed(ENOSPC, path);
  return {};
}

Result<void> TreeStage::add_file(const std::string& path, const Meta& meta, Content content) {
  LOAM_CHECK(check_size(path, content.size_bytes));
  Node* node = LOAM_TRY(new_node(path, ListingEntry::Type::file, meta));
  size_bytes_ += content.size_bytes;
  node->entry.size_bytes = content.size_bytes;
  if (content.size_bytes == 0 && !content.source) return take_bytes(*node, "");
  const bool small = !content.source && held_.size() < kHeldFilesMax &&
                     held_bytes_ + content.size_bytes <= kHeldBytesMax;
  if (!workers_ && small) {
    held_bytes_ += content.size_bytes;
    held_.push_back({node, std::move(content)});
    return {};
  }
  LOAM_CHECK(start_workers());
  return workers_->put({node, std::move(content)});
}

Result<TreeStage::Spool> TreeStage::spool() {
  LOAM_CHECK(make_stage());
  Spool spool;
  spool.name = "spool-" + std::to_string(spools_++);
  spool.fd = LOAM_TRY(disk_.create(stage_.get(), spool.name));
  return spool;
}

Result<void> TreeStage::write(const Spool& spool, std::span<const std::byte> bytes) {
  if (const int error = disk_.write(spool.fd.get(), bytes); error != 0)
    return disk_.failed(error, "temp");
  return {};
}

Result<void> TreeStage::take(Task& task) {
  Node& node = *task.node;
  Result<void> taken;
  if (!task.content.spooled.empty()) {
    taken = take_spooled(node, task.content);
  } else if (!task.content.source) {
    taken = take_bytes(node, task.content.bytes);
  } else {
    taken = take_large(node, std::move(task.content.source), node.entry.path);
  }
  return taken;
}

// Whether this worker is the first to meet the object, and so the one to stage it.
bool TreeStage::claim(const Node& node) {
  const MutexLock lock(mutex_);
  return claimed_.insert(node.entry.object).second;
}

Result<void> TreeStage::take_bytes(Node& node, std::string_view bytes) {
  name_bytes(node, bytes);
  return stage_bytes(node, bytes);
}

void TreeStage::name_bytes(Node& node, std::string_view bytes) {
  node.entry.content = sha256_of(bytes);
  node.entry.object = object_name(node.meta, node.entry.content);
}

Result<void> TreeStage::stage_bytes(const Node& node, std::string_view bytes) {
  if (bytes.empty()) return {};  // made in the tree directly
  if (!claim(node) || LOAM_TRY(link_known(node.entry.object))) return {};
  const std::string name = node.entry.object.hex();
  const Fd fd = LOAM_TRY(disk_.create(objects_.get(), name));
  if (const int error = disk_.write(fd.get(), std::as_bytes(std::span(bytes))); error != 0)
    return disk_.failed(error, node.entry.path);
  return place(node, fd.get(), "");
}

// Reads to the end, which must come after size_bytes; where copy_to is given, writes what it reads.
Result<Digest> TreeStage::hash_file(int fd, std::uint64_t size_bytes, int copy_to) {
  if (::lseek(fd, 0, SEEK_SET) < 0) return fail_errno("seek");
  std::vector<std::byte> buffer(kCopyBytes);
  Sha256 hash;
  std::uint64_t total = 0;
  for (;;) {
    std::size_t count = 0;
    if (const int error = disk_.read(fd, buffer, count); error != 0)
      return disk_.failed(error, "read");
    if (count == 0) break;
    total += count;
    if (total > size_bytes) break;
    const auto bytes = std::span(buffer).first(count);
    hash.add(bytes);
    if (copy_to < 0) continue;
    if (const int error = disk_.write(copy_to, bytes); error != 0)
      return disk_.failed(error, "temp");
  }
  if (total != size_bytes) return fail(ErrorCode::invalid, "changed while it was read; try again");
  return hash.finish();
}

// Hashes first, since most files are known already; what is new is copied, and hashed again as the
// copy is what counts.
Result<void> TreeStage::take_large(Node& node, Fd source, const std::string& path) {
  const auto explain = [&](Error error) { return in_context(printable(path), std::move(error)); };
  if (node.entry.size_bytes <= kSmallFileMax) {
    std::string bytes(node.entry.size_bytes + 1, '\0');
    std::size_t done = 0;
    for (std::size_t count = 1; count > 0 && done < bytes.size(); done += count) {
      const auto rest = std::as_writable_bytes(std::span(bytes)).subspan(done);
      if (const int error = disk_.read(source.get(), rest, count); error != 0)
        return disk_.failed(error, path);
    }
    if (done != node.entry.size_bytes)
      return fail(ErrorCode::invalid, printable(path) + ": changed while it was read; try again");
    bytes.resize(done);
    return take_bytes(node, bytes);
  }
  auto content = hash_file(source.get(), node.entry.size_bytes, -1);
  if (!content) return explain(content.error());
  node.entry.content = *content;
  node.entry.object = object_name(node.meta, *content);
  if (!claim(node) || LOAM_TRY(link_known(node.entry.object))) return {};
  const Fd copy = LOAM_TRY(disk_.create(objects_.get(), node.entry.object.hex()));
  const bool shares = disk_.clone(source.get(), copy.get()) == 0;
  auto copied = shares ? hash_file(copy.get(), node.entry.size_bytes, -1)
                       : hash_file(source.get(), node.entry.size_bytes, copy.get());
  if (!copied) return explain(copied.error());
  if (*copied != *content)
    return fail(ErrorCode::invalid, printable(path) + ": changed while it was read; try again");
  return place(node, copy.get(), "");
}

Result<void> TreeStage::take_spooled(Node& node, const Content& content) {
  node.entry.content = LOAM_TRY(hash_file(content.source.get(), content.size_bytes, -1));
  node.entry.object = object_name(node.meta, node.entry.content);
  if (claim(node) && !LOAM_TRY(link_known(node.entry.object)))
    return place(node, content.source.get(), content.spooled);
  if (const int error = disk_.unlink(stage_.get(), content.spooled); error != 0)
    return disk_.failed(error, "temp");
  return {};
}

Result<void> TreeStage::place(const Node& node, int fd, const std::string& spool_name) {
  if (const int error = apply_meta(disk_, fd, node.meta); error != 0)
    return disk_.failed(error, node.entry.path);
  const std::string name = node.entry.object.hex();
  if (!spool_name.empty())
    if (const int error = disk_.rename(stage_.get(), spool_name, objects_.get(), name); error != 0)
      return disk_.failed(error, "temp");
  const MutexLock lock(mutex_);
  fresh_.insert(node.entry.object);
  return {};
}

// Links an object that the store has into the stage. One that has no links left (ext4: 65,000)
// counts as unknown: a new copy then takes its name, and the old one lives on in its trees.
Result<bool> TreeStage::link_known(const Digest& object) {
  const std::string known = Layout::spread(object);
  const int error = disk_.link(layout_.objects.get(), known, objects_.get(), object.hex());
  if (error == 0) return true;
  if (error == ENOENT || error == EMLINK) return false;
  return disk_.failed(error, "objects/" + known);
}

}  // namespace loam::store
