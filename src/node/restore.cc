#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/files.h"
#include "base/process.h"
#include "base/sha256.h"
#include "base/text.h"
#include "node/backup.h"
#include "node/bootstrap.h"
#include "node/database.h"
#include "store/store.h"

namespace loam::node {
namespace {

constexpr std::size_t kManifestBytesMax = 64 * 1024;
// What a backup may bring into a state folder.
constexpr std::array kMembers{kBackupManifest, kBackupDatabase, "store",     "attempts",
                              "outputs",       "checkpoints",   "endpoints", "secrets"};

// zstd -dc < FILE | tar OPTIONS. `what` stops reading early where it has all that it wants.
Result<std::string> unpack(int file, std::vector<std::string> options, bool early) {
  if (::lseek(file, 0, SEEK_SET) != 0) return fail_errno("reading the backup from its beginning");
  Pipe plain = LOAM_TRY(make_pipe());
  const Fd said(::memfd_create("loam-restore-errors", MFD_CLOEXEC));
  SpawnOptions zstd;
  zstd.argv = {"zstd", "--quiet", "--decompress", "--stdout"};
  zstd.standard_input = file;
  zstd.standard_output = plain.write_end.get();
  zstd.standard_error = said.get();
  Child presser = LOAM_TRY(spawn(zstd));
  plain.write_end.reset();
  SpawnOptions tar;
  tar.argv = {"tar", "--extract", "--file=-"};
  tar.argv.insert(tar.argv.end(), options.begin(), options.end());
  tar.standard_input = plain.read_end.get();
  const Output output = LOAM_TRY(run_collect(tar));
  plain.read_end.reset();
  const int zstd_status = LOAM_TRY(presser.wait());
  ::lseek(said.get(), 0, SEEK_SET);
  const auto zstd_said = read_fd(said.get());
  if (zstd_status != 0 && !(early && WIFSIGNALED(zstd_status)))
    return fail(ErrorCode::corrupt, "zstd: " + describe_status(zstd_status) + ": " +
                                        printable(trim(zstd_said ? *zstd_said : "")));
  if (!output.ok()) {
    const std::string text = printable(trim(output.standard_error));
    const bool full = text.find("No space left") != std::string::npos;
    return fail(full ? ErrorCode::full : ErrorCode::corrupt, "tar: " + text);
  }
  return output.standard_output;
}

Result<void> check_manifest(const Json& manifest, bool root) {
  const std::int64_t format = LOAM_TRY(manifest.int_at("format"));
  const std::int64_t database = LOAM_TRY(manifest.int_at("database_format"));
  if (format > kBackupFormat || database > static_cast<std::int64_t>(migrations().size()))
    return fail(ErrorCode::invalid, "written by a newer Loam (" +
                                        printable(manifest["loam"].as_string()) +
                                        "): restore it with that one, or with a newer one");
  const bool rootless = LOAM_TRY(manifest.bool_at("rootless"));
  const std::int64_t owner = LOAM_TRY(manifest.int_at("owner_uid"));
  if (rootless == root)
    return fail(ErrorCode::invalid, rootless
                                        ? "is of the own node of the user with id " +
                                              std::to_string(owner) + ": restore it as that user"
                                        : "is of a system's node: restore it as root");
  if (rootless && owner != static_cast<std::int64_t>(::getuid()))
    return fail(ErrorCode::invalid, "belongs to the user with id " + std::to_string(owner) +
                                        ", its runs would not be yours: restore it as that user");
  return {};
}

Result<Json> read_manifest(int file) {
  const std::string text =
      LOAM_TRY(unpack(file, {"--to-stdout", "--occurrence=1", kBackupManifest}, true));
  if (text.size() > kManifestBytesMax) return fail(ErrorCode::corrupt, "its manifest is too large");
  return Json::parse(text);
}

// A state folder of before, or an earlier restore's that was cut short (which goes).
Result<void> check_empty(const Paths& paths) {
  if (!path_exists(paths.state) || path_exists(paths.state + "/" + kRestoreMark)) return {};
  for (const std::string& name : LOAM_TRY(list_folder(paths.state)))
    if (paths.state + "/" + name != paths.runtime)
      return fail(ErrorCode::exists,
                  paths.state + " is not empty (" + printable(name) +
                      "): a backup is restored into an empty state folder; loam node uninstall "
                      "--purge empties it, or LOAM_STATE_DIR names another one");
  return {};
}

bool stays(const Paths& paths, const std::string& name) {
  return name == "node.lock" || name == kRestoreMark || paths.state + "/" + name == paths.runtime;
}

// The folder was empty, so all that is in it came with a restore.
Result<void> clear(const Paths& paths) {
  for (const std::string& name : LOAM_TRY(list_folder(paths.state)))
    if (!stays(paths, name)) LOAM_CHECK(remove_tree(paths.state + "/" + name));
  return {};
}

Result<void> check_members(const Paths& paths, const std::vector<std::string>& before) {
  for (const std::string& name : LOAM_TRY(list_folder(paths.state))) {
    const bool known = std::ranges::find(kMembers, name) != kMembers.end() ||
                       std::ranges::find(before, name) != before.end();
    if (!known)
      return fail(ErrorCode::corrupt, "brings what is none of a node's: " + printable(name));
  }
  return {};
}

Result<void> check_content(const Paths& paths, const Json& manifest) {
  const std::string path = paths.state + "/" + kBackupDatabase;
  const Fd database = LOAM_TRY(open_file(path, O_RDONLY | O_NOFOLLOW));
  if (LOAM_TRY(sha256_of_file(database.get())).hex() != manifest["database"].as_string())
    return fail(ErrorCode::corrupt, "its database is not the one that was written");
  const auto store = store::Store::open(paths.store);
  if (!store) return tl::unexpected(store.error());
  const auto damage = LOAM_TRY((*store)->verify({}));
  if (!damage.empty())
    return fail(
        ErrorCode::corrupt,
        damage[0].what + ": " + damage[0].finding +
            (damage.size() > 1 ? " (and " + std::to_string(damage.size() - 1) + " more)" : ""));
  const store::Usage usage = LOAM_TRY((*store)->usage());
  for (const auto& [name, count] :
       {std::pair{"trees", usage.trees}, {"objects", usage.objects}, {"blobs", usage.blobs}})
    if (manifest[name].as_int() != static_cast<std::int64_t>(count))
      return fail(ErrorCode::corrupt, "holds " + std::to_string(count) + " " + name + " of " +
                                          std::to_string(manifest[name].as_int()));
  return {};
}

Result<void> fill(int file, const Paths& paths, const Json& manifest) {
  // Folders with their modes; tar leaves those that are there as they are.
  LOAM_CHECK(make_state_folders(paths));
  if (const auto made = store::Store::open(paths.store); !made) return tl::unexpected(made.error());
  const auto before = LOAM_TRY(list_folder(paths.state));
  LOAM_CHECK(unpack(file,
                    {"--numeric-owner", "--preserve-permissions", "--same-owner", "--xattrs",
                     "--xattrs-include=*", "--no-overwrite-dir", "-C", paths.state},
                    false));
  LOAM_CHECK(check_members(paths, before));
  LOAM_CHECK(check_content(paths, manifest));
  const Fd state = LOAM_TRY(open_file(paths.state, O_RDONLY | O_DIRECTORY));
  if (::syncfs(state.get()) != 0) return fail_errno(paths.state);
  const std::string database = paths.state + "/" + kBackupDatabase;
  if (::rename(database.c_str(), paths.database.c_str()) != 0) return fail_errno(paths.database);
  LOAM_CHECK(remove_tree(paths.state + "/" + kBackupManifest));
  return sync_folder(paths.state);
}

}  // namespace

Result<std::vector<std::string>> restore_backup(const std::string& path) {
  const bool root = ::geteuid() == 0;
  // With the caller's own rights, before any namespace.
  const Fd file = LOAM_TRY(open_file(path, O_RDONLY));
  LOAM_CHECK(check_empty(paths_for(root)));
  auto manifest = read_manifest(file.get());
  if (!manifest) return in_context(path, manifest.error());
  if (const auto right = check_manifest(*manifest, root); !right)
    return in_context(path, right.error());
  const Bootstrap made = LOAM_TRY(bootstrap());
  const Paths& paths = made.context.paths;
  const std::string mark = paths.state + "/" + kRestoreMark;
  LOAM_CHECK(write_file_atomic(mark, path + "\n"));
  LOAM_CHECK(clear(paths));
  auto filled = fill(file.get(), paths, *manifest);
  if (!filled) LOAM_CHECK(clear(paths));
  LOAM_CHECK(remove_tree(mark));
  if (!filled) return in_context(path, filled.error());
  return std::vector<std::string>{
      "restored " + paths.state + ": " + std::to_string((*manifest)["trees"].as_int()) +
      " trees, " + std::to_string((*manifest)["objects"].as_int()) + " objects, " +
      std::to_string((*manifest)["blobs"].as_int()) + " blobs" +
      ((*manifest)["secrets"].as_bool() ? ", secrets" : "; secrets were left out")};
}

}  // namespace loam::node
