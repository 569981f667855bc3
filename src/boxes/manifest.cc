#include "boxes/manifest.h"

#include <sys/stat.h>

#include <cstdlib>
#include <map>

#include "base/sha256.h"
#include "base/text.h"
#include "store/listing.h"
#include "store/snapshot.h"

namespace loam::boxes {
namespace {

constexpr std::uint32_t kModeBits = 0777;
constexpr std::uint32_t kFolderMode = 0755;  // of one that holds nothing but data
constexpr std::int64_t kNsPerSecond = 1'000'000'000;

using Type = ManifestEntry::Type;
using ByPath = std::map<std::string, ManifestEntry>;

class Collector : public store::ProjectVisitor {
 public:
  Result<void> folder(const std::string& path, std::uint32_t mode) override {
    return add({.type = Type::folder, .path = path, .mode = mode & kModeBits});
  }
  Result<void> symlink(const std::string& path, std::string_view target) override {
    if (!is_utf8(target)) return not_utf8(path);
    return add({.type = Type::symlink, .path = path, .target = std::string(target)});
  }
  Result<void> file(const std::string& path, int fd, const struct stat& status) override {
    const auto digest = sha256_of_file(fd);
    if (!digest) return in_context(printable(path), digest.error());
    return add({.type = Type::file,
                .path = path,
                .mode = status.st_mode & kModeBits,
                .size_bytes = static_cast<std::uint64_t>(status.st_size),
                .mtime_ns = status.st_mtim.tv_sec * kNsPerSecond + status.st_mtim.tv_nsec,
                .digest = digest->hex()});
  }
  Result<void> left_out(const std::string&) override { return {}; }

  // A file of `data:`, with the folders above it, which the project may ignore.
  Result<void> data(const Json& file) {
    const std::string& path = file["path"].as_string();
    for (auto slash = path.find('/'); slash != std::string::npos;
         slash = path.find('/', slash + 1)) {
      const std::string above = path.substr(0, slash);
      const auto found = entries_.find(above);
      if (found == entries_.end())
        LOAM_CHECK(add({.type = Type::folder, .path = above, .mode = kFolderMode}));
      else if (found->second.type != Type::folder)
        return fail(ErrorCode::invalid,
                    printable(path) + ": lies behind a link; name the place itself under data:");
    }
    return add({.type = Type::file,
                .path = path,
                .mode = 0644,
                .size_bytes = static_cast<std::uint64_t>(file["size"].as_int()),
                .mtime_ns = std::strtoll(file["mtime_ns"].as_string().c_str(), nullptr, 10)});
  }

  Manifest take() {
    Manifest manifest;
    for (auto& [path, entry] : entries_) manifest.push_back(std::move(entry));
    return manifest;
  }

 private:
  static tl::unexpected<Error> not_utf8(const std::string& path) {
    return fail(ErrorCode::invalid,
                printable(path) +
                    ": its name or target is not UTF-8; rename it, or name it in .loamignore");
  }
  Result<void> add(ManifestEntry entry) {
    if (!is_utf8(entry.path)) return not_utf8(entry.path);
    if (entries_.size() >= kManifestEntriesMax)
      return fail(ErrorCode::too_large,
                  "more than 500,000 files; put them into archives, or name them in .loamignore");
    std::string path = entry.path;
    entries_[std::move(path)] = std::move(entry);
    return {};
  }

  ByPath entries_;  // a folder's path is before those below it
};

const char* name_of(Type type) {
  return type == Type::folder ? "folder" : type == Type::symlink ? "symlink" : "file";
}

Result<Type> type_named(const std::string& name) {
  for (const Type type : {Type::folder, Type::symlink, Type::file})
    if (name == name_of(type)) return type;
  return fail(ErrorCode::invalid,
              "type: '" + printable(name) + "' is none of folder, symlink, file");
}

Result<ManifestEntry> read_entry(const Json& json) {
  ManifestEntry entry;
  entry.type = LOAM_TRY(type_named(json["type"].as_string()));
  entry.path = LOAM_TRY(json.string_at("path"));
  LOAM_CHECK(store::check_path(entry.path));
  if (entry.type == Type::symlink) {
    entry.target = LOAM_TRY(json.string_at("target"));
    if (entry.target.empty() || entry.target.size() > store::kTargetBytesMax ||
        entry.target.find('\0') != std::string::npos)
      return fail(ErrorCode::invalid, "target: no link can have it");
    return entry;
  }
  const std::int64_t mode = LOAM_TRY(json.int_at("mode"));
  if (mode < 0 || mode > std::int64_t{kModeBits})
    return fail(ErrorCode::invalid, "mode: more than permissions");
  entry.mode = static_cast<std::uint32_t>(mode);
  if (entry.type == Type::folder) return entry;
  const std::int64_t size = LOAM_TRY(json.int_at("size"));
  if (size < 0) return fail(ErrorCode::invalid, "size: below 0");
  entry.size_bytes = static_cast<std::uint64_t>(size);
  entry.mtime_ns = std::strtoll(LOAM_TRY(json.string_at("mtime_ns")).c_str(), nullptr, 10);
  if (json.has("sha256")) entry.digest = LOAM_TRY(Digest::parse(json["sha256"].as_string())).hex();
  return entry;
}

}  // namespace

Json to_json(const Manifest& manifest) {
  Json entries = Json::array();
  for (const ManifestEntry& entry : manifest) {
    Json json = Json::object({{"type", name_of(entry.type)}, {"path", entry.path}});
    if (entry.type == Type::symlink) json.set("target", entry.target);
    if (entry.type != Type::symlink) json.set("mode", entry.mode);
    if (entry.type == Type::file) {
      json.set("size", entry.size_bytes);
      json.set("mtime_ns", std::to_string(entry.mtime_ns));
      if (!entry.digest.empty()) json.set("sha256", entry.digest);
    }
    entries.push(std::move(json));
  }
  return entries;
}

Result<Manifest> read_manifest(const Json& entries) {
  Manifest manifest;
  std::map<std::string, Type> seen;
  if (entries.size() > kManifestEntriesMax)
    return fail(ErrorCode::too_large, "more than 500,000 entries");
  for (const Json& json : entries.as_array()) {
    auto read = read_entry(json);
    if (!read) return in_context("entry " + std::to_string(manifest.size()), read.error());
    const std::string shown = "'" + printable(read->path) + "'";
    if (manifest.empty() != read->path.empty())
      return fail(ErrorCode::invalid, shown + ": expected the project's folder, first and once");
    const auto slash = read->path.rfind('/');
    const auto above = seen.find(slash == std::string::npos ? "" : read->path.substr(0, slash));
    if (!manifest.empty() && (above == seen.end() || above->second != Type::folder))
      return fail(ErrorCode::invalid, shown + ": its folder is not before it");
    if (!manifest.empty() && read->path <= manifest.back().path)
      return fail(ErrorCode::invalid, shown + ": comes twice, or out of order");
    seen.emplace(read->path, read->type);
    manifest.push_back(std::move(*read));
  }
  if (manifest.empty() || manifest.front().type != Type::folder)
    return fail(ErrorCode::invalid, "no top folder");
  return manifest;
}

Result<Manifest> manifest_of(const std::string& folder, const ProjectFiles& files) {
  Collector collector;
  LOAM_CHECK(store::visit_project(
      folder, {.data_patterns = files.data, .always_skip = files.skip, .model = files.model},
      collector));
  for (const std::string& pattern : files.data) {
    const auto matched = store::fingerprint_data(folder, pattern, "stat");
    if (!matched) return in_context("data", matched.error());
    for (const Json& file : (*matched)["files"].as_array()) LOAM_CHECK(collector.data(file));
  }
  return collector.take();
}

}  // namespace loam::boxes
