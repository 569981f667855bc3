#include "store/store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/crash_point.h"
#include "base/files.h"
#include "store/layout.h"
#include "store/listing.h"
#include "store/snapshot.h"
#include "store/take.h"

namespace loam::store {
namespace {

constexpr std::size_t kRecordBytesMax = 64u << 20;  // a fingerprint of 100,000 files fits
constexpr std::size_t kCopyBytes = 1u << 20;
constexpr mode_t kBlobMode = 0444;

Result<void> refuse_network(const std::string& path) {
  struct statfs status {};
  if (::statfs(path.c_str(), &status) != 0) return fail_errno("store " + path);
  const std::string name = network_filesystem(static_cast<long>(status.f_type));
  if (name.empty()) return {};
  return fail(ErrorCode::invalid,
              "store " + path + ": lies on " + name +
                  ", where links, locks and syncs keep no promise; set LOAM_STATE_DIR "
                  "to a folder on a disk of this machine");
}

Result<Fd> take_lock(const std::string& path) {
  Fd fd = LOAM_TRY(open_file(path + "/lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (::fcntl(fd.get(), F_OFD_SETLK, &lock) == 0) return fd;
  if (errno == EAGAIN || errno == EACCES)
    return fail(
        ErrorCode::busy,
        "store " + path + ": another node has it open; end that one first (`loam node stop`)");
  return fail_errno("store " + path + ": lock");
}

Result<Fd> open_folder(const std::string& path) {
  LOAM_CHECK(make_folders(path, 0700));
  return open_file(path, O_RDONLY | O_DIRECTORY);
}

// The 256 folders of names' first byte; ff comes last and so says that all are there.
Result<void> make_spread(const Fd& folder) {
  static constexpr char kHex[] = "0123456789abcdef";
  if (::faccessat(folder.get(), "ff", F_OK, 0) == 0) return {};
  for (int i = 0; i < 256; ++i) {
    const char name[] = {kHex[i >> 4], kHex[i & 15], '\0'};
    if (::mkdirat(folder.get(), name, 0700) != 0 && errno != EEXIST) return fail_errno("mkdir");
  }
  return {};
}

Result<void> empty_temp(const std::string& path) {
  const auto names = LOAM_TRY(list_folder(path));
  for (const std::string& name : names) LOAM_CHECK(remove_tree(path + "/" + name));
  return {};
}

bool has_double(const Json& value) {
  if (value.is_double()) return true;
  for (const Json& item : value.as_array())
    if (has_double(item)) return true;
  for (const auto& [key, member] : value.as_object())
    if (has_double(member)) return true;
  return false;
}

}  // namespace

Store::Store() = default;
Store::~Store() = default;

Result<std::unique_ptr<Store>> Store::open(const std::string& path, Disk::Fault fault) {
  LOAM_CHECK(make_folders(path, 0700));
  LOAM_CHECK(refuse_network(path));
  std::unique_ptr<Store> store(new Store());
  store->impl_ = std::make_unique<Impl>(path, std::move(fault));
  Impl& impl = *store->impl_;
  impl.lock = LOAM_TRY(take_lock(path));
  impl.objects = LOAM_TRY(open_folder(path + "/objects"));
  impl.trees = LOAM_TRY(open_folder(path + "/trees"));
  impl.listings = LOAM_TRY(open_folder(path + "/listings"));
  impl.blobs = LOAM_TRY(open_folder(path + "/blobs"));
  impl.copies = LOAM_TRY(open_folder(path + "/copies"));
  impl.temp = LOAM_TRY(open_folder(path + "/temp"));
  LOAM_CHECK(make_spread(impl.objects));
  LOAM_CHECK(make_spread(impl.blobs));
  LOAM_CHECK(empty_temp(path + "/temp"));
  return store;
}

namespace {

// A blob on its way: bytes into temp/, then the name that their hash gives.
class BlobStage {
 public:
  explicit BlobStage(Layout& layout)
      : layout_(layout), disk_(layout.disk), name_(layout.temp_name()), guard_(layout, name_) {}

  Result<void> begin() {
    fd_ = LOAM_TRY(disk_.create(layout_.temp.get(), name_));
    return {};
  }

  Result<void> add(std::span<const std::byte> bytes) {
    hash_.add(bytes);
    if (const int error = disk_.write(fd_.get(), bytes); error != 0)
      return disk_.failed(error, "blobs");
    return {};
  }

  // Where `expected` is given and the bytes are others: corrupt, and nothing is kept.
  Result<Digest> commit(const Digest* expected) {
    const Digest digest = hash_.finish();
    if (expected != nullptr && digest != *expected)
      return fail(ErrorCode::corrupt,
                  "content hashes to " + digest.text() + "; expected " + expected->text());
    int error = disk_.set_mode(fd_.get(), kBlobMode);
    if (error == 0) error = disk_.sync(fd_.get());
    if (error != 0) return disk_.failed(error, "blobs");
    LOAM_CRASH_POINT("store.blob_synced");
    const std::string to = Layout::spread(digest);
    const MutexLock lock(layout_.names);
    error = disk_.rename(layout_.temp.get(), name_, layout_.blobs.get(), to);
    if (error != 0) return disk_.failed(error, "blobs/" + to);
    const Fd folder(
        ::openat(layout_.blobs.get(), to.substr(0, 2).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    error = folder ? disk_.sync(folder.get()) : errno;
    if (error != 0) return disk_.failed(error, "blobs/" + to);
    layout_.pins->note_put(digest);
    return digest;
  }

 private:
  Layout& layout_;
  const Disk& disk_;
  const std::string name_;
  TempGuard guard_;
  Fd fd_;
  Sha256 hash_;
};

// Whether the blob is there; it then counts as put, under the lock that the collector takes.
bool note_known_blob(Layout& layout, const Digest& digest) {
  const MutexLock lock(layout.names);
  if (::faccessat(layout.blobs.get(), Layout::spread(digest).c_str(), F_OK, 0) != 0) return false;
  layout.pins->note_put(digest);
  return true;
}

}  // namespace

Result<Digest> Store::put_blob(std::string_view bytes) {
  const Digest digest = sha256_of(bytes);
  if (note_known_blob(*impl_, digest)) return digest;
  BlobStage stage(*impl_);
  LOAM_CHECK(stage.begin());
  LOAM_CHECK(stage.add(std::as_bytes(std::span(bytes))));
  return stage.commit(&digest);
}

Result<Digest> Store::put_blob_from(int fd, const Digest* expected) {
  if (expected != nullptr && note_known_blob(*impl_, *expected)) return *expected;
  if (::lseek(fd, 0, SEEK_SET) < 0 && errno != ESPIPE) return fail_errno("seek");
  BlobStage stage(*impl_);
  LOAM_CHECK(stage.begin());
  std::vector<std::byte> buffer(kCopyBytes);
  for (;;) {
    std::size_t count = 0;
    if (const int error = impl_->disk.read(fd, buffer, count); error != 0)
      return fail_errno("read", error);
    if (count == 0) return stage.commit(expected);
    LOAM_CHECK(stage.add(std::span(buffer).first(count)));
  }
}

bool Store::has_blob(const Digest& digest) const {
  return ::faccessat(impl_->blobs.get(), Layout::spread(digest).c_str(), F_OK, 0) == 0;
}

std::string Store::blob_path(const Digest& digest) const { return impl_->blob_path(digest); }

Result<std::string> Store::read_blob(const Digest& digest, std::size_t size_bytes_max) const {
  auto bytes = read_file(blob_path(digest), size_bytes_max);
  if (!bytes) return in_context("blob " + digest.short_hex(), bytes.error());
  if (sha256_of(*bytes) != digest)
    return fail(ErrorCode::corrupt,
                "blob " + digest.short_hex() +
                    ": its content no longer hashes to its name; see `loam store verify`");
  return bytes;
}

Result<Digest> Store::put_record(const Json& record) {
  if (!record.is_object()) return fail(ErrorCode::invalid, "a record is a JSON object");
  if (has_double(record)) return fail(ErrorCode::invalid, "a record holds fractions as strings");
  const std::string text = record.dump();
  if (text.size() > kRecordBytesMax) return fail(ErrorCode::too_large, "a record of over 64 MiB");
  return put_blob(text);
}

Result<Json> Store::get_record(const Digest& digest) const {
  const std::string text = LOAM_TRY(read_blob(digest, kRecordBytesMax));
  auto record = Json::parse(text);
  if (!record) return in_context("record " + digest.short_hex(), record.error());
  return record;
}

Result<TreeInfo> Store::put_tree(int folder_fd, TreeOptions options) {
  TreeStage stage(*impl_, options);
  LOAM_CHECK(take_folder(folder_fd, stage));
  return stage.commit();
}

Result<TreeInfo> Store::put_tree_from_tar(int tar_fd, TreeOptions options) {
  TreeStage stage(*impl_, options);
  LOAM_CHECK(take_tar(tar_fd, stage));
  return stage.commit();
}

Result<TreeInfo> Store::put_tree_from_snapshot(int stream_fd, TreeOptions options) {
  options.owner_root = true;
  if (options.file_size_bytes_max == 0) options.file_size_bytes_max = kSnapshotFileBytesMax;
  if (options.size_bytes_max == 0) options.size_bytes_max = kSnapshotBytesMax;
  TreeStage stage(*impl_, options);
  LOAM_CHECK(take_snapshot(stream_fd, stage));
  return stage.commit();
}

bool Store::has_tree(const Digest& digest) const {
  return ::faccessat(impl_->trees.get(), digest.hex().c_str(), F_OK, 0) == 0;
}

std::string Store::tree_path(const Digest& digest) const { return impl_->tree_path(digest); }

Result<std::vector<ListingEntry>> Store::listing(const Digest& digest) const {
  const std::string text = LOAM_TRY(impl_->read_listing(digest));
  auto entries = parse_listing(text);
  if (!entries) return in_context("tree " + digest.short_hex(), entries.error());
  return entries;
}

Result<TreeInfo> Store::tree_info(const Digest& digest) const {
  TreeInfo info = info_of(LOAM_TRY(listing(digest)));
  info.digest = digest;
  return info;
}

Digest Store::listing_digest(const std::vector<ListingEntry>& entries) {
  std::vector<ListingEntry> sorted = entries;
  std::sort(sorted.begin(), sorted.end(),
            [](const ListingEntry& a, const ListingEntry& b) { return a.path < b.path; });
  return sha256_of(listing_text(sorted));
}

std::shared_ptr<Store::Pin> Store::pin() { return std::make_shared<Pin>(impl_->pins); }

}  // namespace loam::store
