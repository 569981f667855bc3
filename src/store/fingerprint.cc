#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "base/files.h"
#include "base/open_beneath.h"
#include "base/sha256.h"
#include "base/text.h"
#include "store/folder_names.h"
#include "store/listing.h"
#include "store/snapshot.h"

namespace loam::store {
namespace {

constexpr std::size_t kSampleBytes = 64 * 1024;
constexpr std::size_t kReadBytes = 1u << 20;
constexpr std::size_t kNamesMax = 4'000'000;

enum class Depth { stat, sample, full };

Result<Depth> parse_depth(const std::string& mode) {
  if (mode == "stat") return Depth::stat;
  if (mode == "sample") return Depth::sample;
  if (mode == "full") return Depth::full;
  return fail(ErrorCode::invalid,
              "fingerprint: '" + printable(mode) + "' is none of stat, sample, full");
}

// The first and the last 64 KiB; all of a file that has no more than both.
Result<Digest> hash_sample(int fd, std::uint64_t size) {
  std::vector<std::byte> buffer(2 * kSampleBytes);
  Sha256 hash;
  const std::size_t first = LOAM_TRY(
      read_full(fd, std::span(buffer).first(size > buffer.size() ? kSampleBytes : buffer.size())));
  hash.add(std::span(buffer).first(first));
  if (size <= buffer.size()) return hash.finish();
  if (::lseek(fd, static_cast<off_t>(size - kSampleBytes), SEEK_SET) < 0) return fail_errno("seek");
  const std::size_t last = LOAM_TRY(read_full(fd, std::span(buffer).first(kSampleBytes)));
  hash.add(std::span(buffer).first(last));
  return hash.finish();
}

Result<Digest> hash_full(int fd) {
  std::vector<std::byte> buffer(kReadBytes);
  Sha256 hash;
  for (std::size_t count = buffer.size(); count == buffer.size();) {
    count = LOAM_TRY(read_full(fd, buffer));
    hash.add(std::span(buffer).first(count));
  }
  return hash.finish();
}

class Fingerprint {
 public:
  Fingerprint(const Fd& top, const std::string& pattern, Depth depth)
      : top_(top), pattern_(pattern), depth_(depth) {
    // Without "**" no match lies deeper than the pattern: the project's other folders are not
    // searched.
    if (pattern.find("**") == std::string::npos) depth_max_ = depth_of(pattern);
  }

  Result<void> collect() {
    const std::string& folder = pattern_.folder();
    if (folder.empty()) return walk(top_.get(), "");
    const auto fd = open_beneath(top_.get(), folder, O_RDONLY | O_DIRECTORY);
    if (!fd && (errno == ENOENT || errno == ENOTDIR))
      return {};  // no file matches; said by the caller
    if (!fd && (errno == ELOOP || errno == EXDEV))
      return fail(ErrorCode::invalid, printable(folder) +
                                          ": is a link or lies behind one, and a run would "
                                          "not see its files; name the place itself under mounts:");
    if (!fd) return tl::unexpected(fd.error());
    return walk(fd->get(), folder);
  }

  const Json::Array& files() const { return files_; }
  Digest digest() const { return sha256_of(Json(named_).dump()); }

 private:
  static std::size_t depth_of(std::string_view path) {
    return static_cast<std::size_t>(std::count(path.begin(), path.end(), '/'));
  }

  Result<void> walk(int folder, const std::string& path) {
    auto names = names_in(folder, kNamesMax);
    if (!names) return in_context(printable(path), names.error());
    for (const std::string& name : *names) {
      const std::string below = path.empty() ? name : path + "/" + name;
      struct stat status {};
      if (::fstatat(folder, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
        continue;  // gone meanwhile
      if (S_ISDIR(status.st_mode)) {
        if (depth_of(below) >= depth_max_) continue;
        LOAM_CHECK(check_path(below));
        const auto fd = open_beneath(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (!fd) return in_context(printable(path), fd.error());
        LOAM_CHECK(walk(fd->get(), below));
      } else if (pattern_.matches(below)) {
        LOAM_CHECK(file(below));
      }
    }
    return {};
  }

  // A link may lead to a file beneath the folder, not out of it: a run would not see that.
  Result<void> file(const std::string& path) {
    if (!is_utf8(path))
      return fail(ErrorCode::invalid, printable(path) + ": its name is not UTF-8; rename it");
    if (files_.size() == kFingerprintFilesMax)
      return fail(ErrorCode::too_large,
                  "more than 100,000 files match; put them into archives, or narrow the pattern");
    const auto fd = open_beneath(top_.get(), path, O_RDONLY, Links::follow_beneath);
    if (!fd && errno == EXDEV)
      return fail(ErrorCode::invalid,
                  printable(path) +
                      ": is a link out of the folder, which a run would not see; "
                      "name its target under mounts:");
    if (!fd) return tl::unexpected(fd.error());
    struct stat status {};
    if (::fstat(fd->get(), &status) != 0) return fail_errno(printable(path));
    if (!S_ISREG(status.st_mode)) return {};
    const auto size = static_cast<std::uint64_t>(status.st_size);
    const std::int64_t mtime_ns =
        status.st_mtim.tv_sec * std::int64_t{1'000'000'000} + status.st_mtim.tv_nsec;
    Json named = Json::object({{"path", path}, {"size", size}});
    if (depth_ != Depth::stat) {
      const auto hash = depth_ == Depth::full ? hash_full(fd->get()) : hash_sample(fd->get(), size);
      if (!hash) return in_context(printable(path), hash.error());
      named.set("sha256", hash->hex());
    }
    Json full = named;
    full.set("mtime_ns", std::to_string(mtime_ns));
    if (depth_ == Depth::stat) named = full;
    named_.push_back(std::move(named));
    files_.push_back(std::move(full));
    return {};
  }

  const Fd& top_;
  const Glob pattern_;
  const Depth depth_;
  std::size_t depth_max_ = SIZE_MAX;  // slashes in a path that can match
  Json::Array files_;
  Json::Array named_;  // what the digest covers: without mtimes where content was read
};

}  // namespace

Result<Json> fingerprint_data(const std::string& folder, const std::string& pattern,
                              const std::string& mode) {
  const Depth depth = LOAM_TRY(parse_depth(mode));
  const Fd top = LOAM_TRY(open_file(folder, O_RDONLY | O_DIRECTORY));
  Fingerprint fingerprint(top, pattern.starts_with("./") ? pattern.substr(2) : pattern, depth);
  LOAM_CHECK(fingerprint.collect());
  if (fingerprint.files().empty())
    return fail(ErrorCode::not_found,
                "'" + printable(pattern) + "' matches no file in " + printable(folder));
  return Json::object(
      {{"mode", mode}, {"files", fingerprint.files()}, {"digest", fingerprint.digest().hex()}});
}

}  // namespace loam::store
