// Tar by libarchive. The archive is foreign: every path goes through the stage's checks, and
// nothing is extracted by libarchive itself; it only decodes.
#include <archive.h>
#include <archive_entry.h>
#include <locale.h>

#include <cstring>
#include <memory>
#include <vector>

#include "base/text.h"
#include "store/listing.h"
#include "store/take.h"

namespace loam::store {
namespace {

constexpr std::size_t kReadBytes = 256 * 1024;

struct FreeArchive {
  void operator()(archive* reader) const { ::archive_read_free(reader); }
};

Error archive_error(archive* reader) {
  const char* text = ::archive_error_string(reader);
  return {ErrorCode::invalid,
          std::string("tar: ") + (text != nullptr ? printable(text) : "cannot be read")};
}

// "./usr/bin/" → "usr/bin"; "./" → "". Whatever else is odd stays for check_path to refuse.
Result<std::string> clean_path(const char* raw) {
  if (raw == nullptr) return fail(ErrorCode::invalid, "tar: an entry without a path");
  std::string_view path = raw;
  while (path.starts_with("./")) path.remove_prefix(2);
  while (path.ends_with('/') && path.size() > 1) path.remove_suffix(1);
  if (path == ".") path = "";
  LOAM_CHECK(check_path(path));
  return std::string(path);
}

class TarReader {
 public:
  TarReader(archive* reader, TreeStage& stage) : reader_(reader), stage_(stage) {}

  Result<void> read_all() {
    archive_entry* entry = nullptr;
    for (;;) {
      const int status = ::archive_read_next_header(reader_, &entry);
      if (status == ARCHIVE_EOF) return check_end();
      // A warning: a name that is not UTF-8. Its bytes are taken as they are.
      if (status != ARCHIVE_OK && status != ARCHIVE_WARN)
        return tl::unexpected(archive_error(reader_));
      LOAM_CHECK(take(entry));
    }
  }

 private:
  // libarchive takes the stream's end for the archive's end. A writer that died between two entries
  // must not pass for one that was done: the end mark (POSIX pax: two blocks of zeros) has to have
  // been read.
  Result<void> check_end() {
    if (::archive_filter_bytes(reader_, 0) > ::archive_read_header_position(reader_)) return {};
    return fail(ErrorCode::invalid,
                "tar: cut short: the stream ends without the archive's end mark");
  }

  Result<void> take(archive_entry* entry) {
    const std::string path = LOAM_TRY(clean_path(::archive_entry_pathname(entry)));
    if (const char* target = ::archive_entry_hardlink(entry); target != nullptr) {
      if (::archive_entry_size(entry) > 0)
        return fail(ErrorCode::invalid, "tar: hard link '" + printable(path) + "' with content");
      return stage_.add_hard_link(path, LOAM_TRY(clean_path(target)));
    }
    const Meta meta = LOAM_TRY(meta_of(entry, path));
    switch (::archive_entry_filetype(entry)) {
      case AE_IFDIR:
        return stage_.add_folder(path, meta);
      case AE_IFREG:
        return file(entry, path, meta);
      case AE_IFLNK: {
        const char* target = ::archive_entry_symlink(entry);
        return stage_.add_symlink(path, meta, target != nullptr ? target : "");
      }
      default:
        stage_.skip();
        return {};  // device nodes, fifos, sockets: an OS tree's /dev is made at start
    }
  }

  static Result<Meta> meta_of(archive_entry* entry, const std::string& path) {
    const auto uid = ::archive_entry_uid(entry);
    const auto gid = ::archive_entry_gid(entry);
    // (uid_t)-1 means "leave as it is" to chown.
    if (uid < 0 || gid < 0 || uid >= UINT32_MAX || gid >= UINT32_MAX)
      return fail(ErrorCode::invalid, "tar: '" + printable(path) + "' belongs to an impossible id");
    Meta meta;
    meta.mode = static_cast<std::uint32_t>(::archive_entry_perm(entry)) & 07777;
    meta.uid = static_cast<std::uint32_t>(uid);
    meta.gid = static_cast<std::uint32_t>(gid);
    if (::archive_entry_filetype(entry) != AE_IFREG) return meta;
    ::archive_entry_xattr_reset(entry);
    const char* name = nullptr;
    const void* value = nullptr;
    std::size_t size = 0;
    std::size_t total = 0;
    while (::archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
      if (name == nullptr || !is_kept_xattr(name)) continue;
      if ((total += size) > kXattrBytesMax)
        return fail(ErrorCode::too_large,
                    "tar: '" + printable(path) + "' has over 64 KiB of xattrs");
      std::string text(static_cast<const char*>(value), size);
      if (std::strcmp(name, "security.capability") == 0) {
        auto capability = capability_v2(text);
        if (!capability) return in_context("tar: " + printable(path), capability.error());
        text = std::move(*capability);
      }
      meta.xattrs[name] = std::move(text);
    }
    return meta;
  }

  Result<void> file(archive_entry* entry, const std::string& path, const Meta& meta) {
    const auto size = ::archive_entry_size(entry);
    if (size < 0)
      return fail(ErrorCode::invalid, "tar: '" + printable(path) + "' has a negative size");
    Content content;
    content.size_bytes = static_cast<std::uint64_t>(size);
    LOAM_CHECK(stage_.check_size(path, content.size_bytes));
    if (content.size_bytes <= kSmallFileMax) {
      content.bytes.resize(content.size_bytes);
      LOAM_CHECK(read_exactly(std::as_writable_bytes(std::span(content.bytes)), path));
      return stage_.add_file(path, meta, std::move(content));
    }
    TreeStage::Spool spool = LOAM_TRY(stage_.spool());
    std::vector<std::byte> buffer(kReadBytes);
    for (std::uint64_t left = content.size_bytes; left > 0;) {
      const auto part = std::span(buffer).first(std::min<std::uint64_t>(left, buffer.size()));
      LOAM_CHECK(read_exactly(part, path));
      LOAM_CHECK(stage_.write(spool, part));
      left -= part.size();
    }
    content.source = std::move(spool.fd);
    content.spooled = std::move(spool.name);
    return stage_.add_file(path, meta, std::move(content));
  }

  Result<void> read_exactly(std::span<std::byte> buffer, const std::string& path) {
    while (!buffer.empty()) {
      const auto count = ::archive_read_data(reader_, buffer.data(), buffer.size());
      if (count < 0) return in_context(printable(path), archive_error(reader_));
      if (count == 0)
        return fail(ErrorCode::invalid, "tar: '" + printable(path) + "' ends before its size");
      buffer = buffer.subspan(static_cast<std::size_t>(count));
    }
    return {};
  }

  archive* reader_;
  TreeStage& stage_;
};

// libarchive converts names by the thread's locale, and a daemon's "C" cannot hold UTF-8.
class Utf8Locale {
 public:
  Utf8Locale() : own_(::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr)) {
    if (own_ != nullptr) before_ = ::uselocale(own_);
  }
  Utf8Locale(const Utf8Locale&) = delete;
  Utf8Locale& operator=(const Utf8Locale&) = delete;
  ~Utf8Locale() {
    if (own_ == nullptr) return;
    ::uselocale(before_);
    ::freelocale(own_);
  }

 private:
  locale_t own_;
  locale_t before_ = nullptr;
};

}  // namespace

Result<void> take_tar(int tar_fd, TreeStage& stage) {
  const Utf8Locale locale;
  const std::unique_ptr<archive, FreeArchive> reader(::archive_read_new());
  LOAM_ASSERT(reader != nullptr);
  if (::archive_read_support_format_tar(reader.get()) != ARCHIVE_OK ||
      ::archive_read_open_fd(reader.get(), tar_fd, kReadBytes) != ARCHIVE_OK)
    return tl::unexpected(archive_error(reader.get()));
  return TarReader(reader.get(), stage).read_all();
}

}  // namespace loam::store
