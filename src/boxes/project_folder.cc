#include "boxes/project_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/files.h"
#include "base/open_beneath.h"
#include "base/sha256.h"
#include "base/text.h"
#include "store/folder_names.h"
#include "store/listing.h"

namespace loam::boxes {
namespace {

using Type = ManifestEntry::Type;

constexpr std::int64_t kNsPerSecond = 1'000'000'000;
constexpr mode_t kOwnerAll = 0700;

std::string last_part(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// The manifest is in order of its paths.
const ManifestEntry* find(const Manifest& manifest, const std::string& path) {
  const auto at = std::lower_bound(
      manifest.begin(), manifest.end(), path,
      [](const ManifestEntry& entry, const std::string& wanted) { return entry.path < wanted; });
  return at != manifest.end() && at->path == path ? &*at : nullptr;
}

Type type_of(mode_t mode) {
  return S_ISDIR(mode) ? Type::folder : S_ISLNK(mode) ? Type::symlink : Type::file;
}

bool is_kind_of(const ManifestEntry& entry, mode_t mode) {
  return (S_ISDIR(mode) || S_ISLNK(mode) || S_ISREG(mode)) && entry.type == type_of(mode);
}

}  // namespace

Result<ProjectFolder> ProjectFolder::open(const std::string& path) {
  LOAM_CHECK(make_folders(path, kOwnerAll));
  Fd fd = LOAM_TRY(open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  return ProjectFolder(path, std::move(fd));
}

Result<Fd> ProjectFolder::parent_of(const std::string& path) const {
  const auto slash = path.rfind('/');
  return open_beneath(fd_.get(), slash == std::string::npos ? "." : path.substr(0, slash),
                      O_RDONLY | O_DIRECTORY);
}

bool ProjectFolder::has(const ManifestEntry& entry) const {
  const auto file = open_beneath(fd_.get(), entry.path, O_RDONLY | O_NOFOLLOW);
  struct stat status {};
  if (!file || ::fstat(file->get(), &status) != 0 || !S_ISREG(status.st_mode)) return false;
  if (static_cast<std::uint64_t>(status.st_size) != entry.size_bytes) return false;
  if (entry.digest.empty())
    return status.st_mtim.tv_sec * kNsPerSecond + status.st_mtim.tv_nsec == entry.mtime_ns;
  const auto digest = sha256_of_file(file->get());
  return digest && digest->hex() == entry.digest;
}

Result<std::vector<std::size_t>> ProjectFolder::lacking(const Manifest& manifest) const {
  std::vector<std::size_t> wanted;
  for (std::size_t i = 0; i < manifest.size(); ++i)
    if (manifest[i].type == Type::file && !has(manifest[i])) wanted.push_back(i);
  return wanted;
}

Result<void> ProjectFolder::become(const Manifest& manifest, const std::vector<std::size_t>& wanted,
                                   const Fd& incoming) {
  LOAM_CHECK(remove_others(manifest, fd_, ""));
  for (const ManifestEntry& entry : manifest) {
    auto made = make(entry);
    if (!made) return in_context(printable(entry.path), made.error());
  }
  for (const std::size_t number : wanted) {
    const std::string& path = manifest[number].path;
    const Fd parent = LOAM_TRY(parent_of(path));
    if (::renameat(incoming.get(), std::to_string(number).c_str(), parent.get(),
                   last_part(path).c_str()) != 0)
      return fail_errno(printable(path));
  }
  // Folders last, from the bottom up: one may be closed even to its owner.
  for (auto entry = manifest.rbegin(); entry != manifest.rend(); ++entry)
    LOAM_CHECK(set_mode(*entry));
  return {};
}

Result<void> ProjectFolder::remove_others(const Manifest& manifest, const Fd& folder,
                                          const std::string& path) {
  if (::fchmod(folder.get(), kOwnerAll) != 0) return fail_errno(printable(path));
  const auto names = LOAM_TRY(store::names_in(folder.get(), store::kTreeEntriesMax));
  for (const std::string& name : names) {
    const std::string below = path.empty() ? name : path + "/" + name;
    struct stat status {};
    if (::fstatat(folder.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
      return fail_errno(printable(below));
    const ManifestEntry* entry = find(manifest, below);
    const bool stays = entry != nullptr && is_kind_of(*entry, status.st_mode);
    if (S_ISDIR(status.st_mode)) {
      // Opened even where all of it goes: who may not write into a folder cannot empty it.
      const auto inner = open_beneath(folder.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      if (!inner) return in_context(printable(below), inner.error());
      LOAM_CHECK(remove_others(manifest, *inner, below));
    }
    if (!stays &&
        ::unlinkat(folder.get(), name.c_str(), S_ISDIR(status.st_mode) ? AT_REMOVEDIR : 0) != 0)
      return fail_errno(printable(below));
  }
  return {};
}

Result<void> ProjectFolder::make(const ManifestEntry& entry) {
  if (entry.path.empty() || entry.type == Type::file) return {};
  const Fd parent = LOAM_TRY(parent_of(entry.path));
  const std::string name = last_part(entry.path);
  if (entry.type == Type::folder) {
    if (::mkdirat(parent.get(), name.c_str(), kOwnerAll) != 0 && errno != EEXIST)
      return fail_errno("mkdir");
    return {};
  }
  std::array<char, store::kTargetBytesMax + 1> target;
  const ssize_t size = ::readlinkat(parent.get(), name.c_str(), target.data(), target.size());
  if (size >= 0 && std::string_view(target.data(), static_cast<std::size_t>(size)) == entry.target)
    return {};
  if (size >= 0 && ::unlinkat(parent.get(), name.c_str(), 0) != 0) return fail_errno("unlink");
  if (::symlinkat(entry.target.c_str(), parent.get(), name.c_str()) != 0)
    return fail_errno("symlink");
  return {};
}

Result<void> ProjectFolder::set_mode(const ManifestEntry& entry) {
  if (entry.type == Type::symlink) return {};
  // Its user reads it again at the next push.
  const mode_t mode = entry.mode | (entry.type == Type::folder ? 0500u : 0400u);
  const Fd parent = LOAM_TRY(parent_of(entry.path));
  const std::string name = entry.path.empty() ? "." : last_part(entry.path);
  if (::fchmodat(parent.get(), name.c_str(), mode, 0) != 0)
    return fail_errno(printable(entry.path));
  return {};
}

}  // namespace loam::boxes
