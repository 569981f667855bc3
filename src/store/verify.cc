// verify(): is everything still what its name says?
//
//   objects ─▶ inode → object's name, for all that are right ─┐
//   listings ─▶ hash, parse ─▶ compare with trees/ and copies/ by inode ─▶ damage
//   blobs ─▶ hash
//
// A file of a tree whose inode is no named object's (its object was stored twice, or lost its name)
// is hashed itself. What the collector or a crash may leave (a listing without a tree) is no
// damage.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <map>

#include "base/files.h"
#include "base/text.h"
#include "store/folder_names.h"
#include "store/foreign.h"
#include "store/layout.h"
#include "store/listing.h"
#include "store/object.h"
#include "store/owners.h"
#include "store/workers.h"

namespace loam::store {
namespace {

constexpr std::size_t kReadBytes = 1u << 20;
constexpr std::size_t kNamesMax = 100'000'000;

Result<Digest> hash_open_file(int fd) {
  std::vector<std::byte> buffer(kReadBytes);
  Sha256 hash;
  for (;;) {
    const std::size_t count = LOAM_TRY(read_full(fd, buffer));
    hash.add(std::span(buffer).first(count));
    if (count < buffer.size()) return hash.finish();
  }
}

struct OwnerChange {  // of a copy: who its entries belong to
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};

class Verifier {
 public:
  Verifier(const Layout& layout, const VerifyProgress& progress)
      : layout_(layout), progress_(progress) {}

  Result<std::vector<Damage>> run() {
    for (const std::string& name : LOAM_TRY(foreign_names(layout_)))
      found(printable(name), "is not the store's own; move it away");
    const auto objects = LOAM_TRY(spread_names(layout_.objects));
    const auto blobs = LOAM_TRY(spread_names(layout_.blobs));
    const auto trees = LOAM_TRY(names_in(layout_.trees.get(), kNamesMax));
    const auto listings = LOAM_TRY(names_in(layout_.listings.get(), kNamesMax));
    const auto copies = LOAM_TRY(names_in(layout_.copies.get(), kNamesMax));
    total_ = objects.size() + blobs.size() + trees.size() + listings.size() + copies.size();
    LOAM_CHECK(each(objects, [this](const std::string& name) { object(name); }));
    LOAM_CHECK(each(blobs, [this](const std::string& name) { blob(name); }));
    LOAM_CHECK(each(listings, [this](const std::string& name) { listing(name); }));
    LOAM_CHECK(each(trees, [this](const std::string& name) { tree(name); }));
    LOAM_CHECK(each(copies, [this](const std::string& name) { copy(name); }));
    const MutexLock lock(mutex_);
    return std::move(damage_);
  }

 private:
  static Result<std::vector<std::string>> spread_names(const Fd& folder) {
    std::vector<std::string> names;
    for (const std::string& prefix : LOAM_TRY(names_in(folder.get(), kNamesMax))) {
      const Fd below = LOAM_TRY(open_spread(folder, prefix));
      if (!below) continue;
      for (const std::string& name : LOAM_TRY(names_in(below.get(), kNamesMax)))
        if (is_spread_file(name)) names.push_back(prefix + "/" + name);
    }
    return names;
  }

  template <class Check>
  Result<void> each(const std::vector<std::string>& names, Check check) {
    Workers<std::string> workers([&](std::string& name) -> Result<void> {
      check(name);
      const MutexLock lock(mutex_);
      ++done_;
      if (progress_ && !progress_(done_, total_))
        return fail(ErrorCode::cancelled, "verification was stopped");
      return {};
    });
    for (const std::string& name : names) LOAM_CHECK(workers.put(name));
    return workers.finish();
  }

  void found(std::string what, std::string finding) {
    const MutexLock lock(mutex_);
    damage_.push_back({std::move(what), std::move(finding)});
  }

  static std::string joined(const std::string& name) { return name.substr(0, 2) + name.substr(3); }

  // The name that an open file's metadata and content give.
  static Result<Digest> name_of(int fd) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) return fail_errno("stat");
    if (!S_ISREG(status.st_mode)) return fail(ErrorCode::corrupt, "is no regular file");
    Meta meta;
    meta.mode = status.st_mode & 07777;
    meta.uid = owners().recorded_uid(status.st_uid);
    meta.gid = owners().recorded_gid(status.st_gid);
    meta.xattrs = LOAM_TRY(read_xattrs(fd));
    return object_name(meta, LOAM_TRY(hash_open_file(fd)));
  }

  void object(const std::string& name) {
    const std::string what = "object " + joined(name);
    const Fd fd(::openat(layout_.objects.get(), name.c_str(),
                         O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!fd && errno == ENOENT) return;  // the collector may be ahead of us
    const auto digest = fd ? name_of(fd.get()) : Result<Digest>(fail_errno("open"));
    if (!digest) return found(what, digest.error().text);
    if (digest->hex() != joined(name))
      return found(what, "content and metadata hash to " + digest->hex());
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return;
    const MutexLock lock(mutex_);
    good_[status.st_ino] = *digest;
  }

  void blob(const std::string& name) {
    const std::string what = "blob " + joined(name);
    const Fd fd(::openat(layout_.blobs.get(), name.c_str(),
                         O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!fd && errno == ENOENT) return;
    const auto digest = fd ? hash_open_file(fd.get()) : Result<Digest>(fail_errno("open"));
    if (!digest) return found(what, digest.error().text);
    if (digest->hex() != joined(name)) found(what, "content hashes to " + digest->hex());
  }

  void listing(const std::string& name) {
    const auto digest = Digest::parse(name);
    if (!digest || !is_digest_name(name)) return;  // foreign_names() has named it
    const auto text = layout_.read_listing(*digest);
    if (!text && text.error().code == ErrorCode::not_found) return;
    if (!text) return found("listing " + name, text.error().text);
    if (const auto entries = parse_listing(*text); !entries)
      found("listing " + name, entries.error().text);
  }

  void tree(const std::string& name) {
    const auto digest = Digest::parse(name);
    if (!digest || !is_digest_name(name)) return;
    compare("tree " + name, *digest, layout_.trees.get(), name, nullptr);
  }

  void copy(const std::string& name) {
    if (!is_copy_name(name)) return;
    const std::vector<std::string> parts = split(name, '-');
    const auto digest = Digest::parse(parts[0]);
    if (!digest) return;
    const OwnerChange owner{
        static_cast<std::uint32_t>(std::strtoul(parts[1].c_str(), nullptr, 10)),
        static_cast<std::uint32_t>(std::strtoul(parts[2].c_str(), nullptr, 10))};
    compare("copy " + name, *digest, layout_.copies.get(), name, &owner);
  }

  void compare(const std::string& what, const Digest& digest, int parent, const std::string& name,
               const OwnerChange* owner) {
    const Fd folder(
        ::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!folder && errno == ENOENT) return;
    if (!folder) return found(what, std::string("cannot be opened: ") + std::strerror(errno));
    const auto text = layout_.read_listing(digest);
    const auto entries = text ? parse_listing(*text) : tl::unexpected(text.error());
    if (!entries) return found(what, entries.error().text);
    std::map<std::string, const ListingEntry*> by_path;
    for (const ListingEntry& entry : *entries) by_path[entry.path] = &entry;
    std::uint64_t seen = 0;
    walk(what, folder.get(), "", by_path, owner, seen);
    if (seen != by_path.size())
      found(what, std::to_string(by_path.size() - seen) +
                      " entries of its listing are missing or changed");
  }

  // `seen` counts the entries that are as the listing says.
  void walk(const std::string& what, int folder, const std::string& path,
            const std::map<std::string, const ListingEntry*>& by_path, const OwnerChange* owner,
            std::uint64_t& seen) {
    struct stat status {};
    if (::fstat(folder, &status) != 0) return found(what, "stat: " + printable(path));
    const auto self = by_path.find(path);
    if (self == by_path.end() || self->second->type != ListingEntry::Type::folder)
      return found(what, "holds " + printable(path) + ", which its listing does not have");
    if (same_meta(*self->second, status, owner)) ++seen;
    const auto names = names_in(folder, kNamesMax);
    if (!names) return found(what, names.error().text);
    for (const std::string& name : *names) {
      const std::string below = path.empty() ? name : path + "/" + name;
      const Fd next(
          ::openat(folder, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (next) {
        walk(what, next.get(), below, by_path, owner, seen);
        continue;
      }
      const auto entry = by_path.find(below);
      if (entry == by_path.end()) {
        found(what, "holds " + printable(below) + ", which its listing does not have");
      } else if (same_entry(*entry->second, folder, name, owner)) {
        ++seen;
      }
    }
  }

  static bool same_meta(const ListingEntry& entry, const struct stat& status,
                        const OwnerChange* owner) {
    const std::uint32_t uid = owner != nullptr ? owner->uid : entry.uid;
    const std::uint32_t gid = owner != nullptr ? owner->gid : entry.gid;
    const std::uint32_t mode = owner != nullptr ? entry.mode & 01777 : entry.mode;
    return (status.st_mode & 07777) == mode && status.st_uid == owners().uid_on_disk(uid) &&
           status.st_gid == owners().gid_on_disk(gid);
  }

  bool same_entry(const ListingEntry& entry, int folder, const std::string& name,
                  const OwnerChange* owner) {
    struct stat status {};
    if (::fstatat(folder, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) return false;
    if (!same_meta(entry, status, owner)) return false;
    if (entry.type == ListingEntry::Type::symlink) {
      char target[PATH_MAX];
      const ssize_t size = ::readlinkat(folder, name.c_str(), target, sizeof target);
      return size >= 0 && entry.target == std::string_view(target, static_cast<std::size_t>(size));
    }
    if (entry.type != ListingEntry::Type::file || !S_ISREG(status.st_mode)) return false;
    {
      const MutexLock lock(mutex_);
      if (const auto known = good_.find(status.st_ino); known != good_.end())
        return known->second == entry.object;
    }
    const Fd fd(::openat(folder, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!fd) return false;
    if (owner != nullptr) {
      const auto content = hash_open_file(fd.get());
      return content && *content == entry.content;
    }
    const auto digest = name_of(fd.get());
    return digest && *digest == entry.object;
  }

  const Layout& layout_;
  const VerifyProgress& progress_;
  std::uint64_t total_ = 0;  // known before the first worker starts
  Mutex mutex_;
  std::map<ino_t, Digest> good_ LOAM_GUARDED_BY(mutex_);
  std::vector<Damage> damage_ LOAM_GUARDED_BY(mutex_);
  std::uint64_t done_ LOAM_GUARDED_BY(mutex_) = 0;
};

}  // namespace

Result<std::vector<Damage>> Store::verify(const VerifyProgress& progress) {
  const MutexLock lock(impl_->maintenance);
  return Verifier(*impl_, progress).run();
}

}  // namespace loam::store
