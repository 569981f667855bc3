#include "node/backup.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "base/clock.h"
#include "base/files.h"
#include "base/process.h"
#include "base/sha256.h"
#include "base/text.h"
#include "node/database.h"
#include "node/database_copy.h"

namespace loam::node {
namespace {

constexpr std::size_t kReadBytes = 64 * 1024;
constexpr int kNamesFd = 3;

// STATE/backup: the copied database and the manifest while they are streamed.
class Workplace {
 public:
  explicit Workplace(std::string folder) : folder_(std::move(folder)) {}
  Workplace(const Workplace&) = delete;
  Workplace& operator=(const Workplace&) = delete;
  ~Workplace() { (void)remove_tree(folder_); }
  Result<void> make() const {
    LOAM_CHECK(remove_tree(folder_));
    return make_folders(folder_, 0700);
  }
  std::string path(const char* name) const { return folder_ + "/" + name; }
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
};

// Names below the state folder, each ended by a zero byte: what tar's --null --files-from reads.
class Names {
 public:
  void add(const std::string& name) {
    text_ += name;
    text_ += '\0';
  }
  // Every file of FOLDER/ab/ for all ab.
  Result<std::uint64_t> add_spread(const std::string& state, const std::string& folder) {
    std::uint64_t count = 0;
    for (const std::string& prefix : LOAM_TRY(list_folder(state + "/" + folder)))
      for (const std::string& name : LOAM_TRY(list_folder(state + "/" + folder + "/" + prefix))) {
        add(folder + "/" + prefix + "/" + name);
        ++count;
      }
    return count;
  }
  void add_if_there(const std::string& state, const std::string& name) {
    if (path_exists(state + "/" + name)) add(name);
  }
  Result<Fd> as_file() const {
    Fd file(::memfd_create("loam-backup-names", MFD_CLOEXEC));
    if (!file) return fail_errno("memfd_create");
    LOAM_CHECK(write_full(file.get(), text_));
    if (::lseek(file.get(), 0, SEEK_SET) != 0) return fail_errno("memfd");
    return file;
  }

 private:
  std::string text_;
};

// What runs now is lost there: without a boot that could be the present one, no node fences it,
// least of all while this one still watches it.
void let_go_of_this_boot(Database& database) {
  database.write("UPDATE attempts SET boot='backup' WHERE state<>'ended'");
  database.write("DELETE FROM node_facts WHERE name='cgroups'");
  // What is revoked after this stays revoked, and on another machine a uid is another person.
  database.write("DELETE FROM tokens");
}

// Ended attempts, whose folders only a collection removes. What else jobs write still changes: by
// the name of the folder above, so that what goes while it is read is no error (see stream()).
Result<void> add_work(const std::string& state, const std::string& database, Names& names) {
  auto copy = Database::open(database, migrations());
  if (!copy) return tl::unexpected(copy.error());
  for (const Row& row : (*copy)->query("SELECT id FROM attempts WHERE state='ended'"))
    names.add_if_there(state, "attempts/" + std::to_string(row.integer(0)));
  for (const char* folder : {"outputs", "checkpoints", "endpoints"})
    names.add_if_there(state, folder);
  let_go_of_this_boot(**copy);
  return (*copy)->commit_turn();
}

// Trees before objects: each object of a tree that has a name was named before it.
Result<Json> add_store(const std::string& state, Names& names) {
  const auto trees = LOAM_TRY(list_folder(state + "/store/trees"));
  const std::uint64_t objects = LOAM_TRY(names.add_spread(state, "store/objects"));
  for (const std::string& tree : trees) {
    names.add("store/listings/" + tree);
    names.add("store/trees/" + tree);
  }
  const std::uint64_t blobs = LOAM_TRY(names.add_spread(state, "store/blobs"));
  return Json::object({{"trees", trees.size()}, {"objects", objects}, {"blobs", blobs}});
}

Result<void> stream(const Workplace& work, const std::string& state, const Names& names,
                    const std::function<Result<void>(std::string_view)>& sink) {
  const Fd list = LOAM_TRY(names.as_file());
  Pipe plain = LOAM_TRY(make_pipe());
  Pipe packed = LOAM_TRY(make_pipe());
  const Fd said(::memfd_create("loam-backup-errors", MFD_CLOEXEC));
  SpawnOptions tar;
  tar.argv = {"tar",
              "--create",
              "--file=-",
              "--format=posix",
              "--numeric-owner",
              "--xattrs",
              "--xattrs-include=security.capability",
              "--xattrs-include=user.*",
              "--xattrs-include=trusted.overlay.*",
              "--no-unquote",
              "-C",
              work.folder(),
              kBackupManifest,
              kBackupDatabase,
              "-C",
              state,
              "--null",
              "--files-from=/proc/self/fd/" + std::to_string(kNamesFd)};
  tar.descriptors = {{list.get(), kNamesFd}};
  tar.standard_output = plain.write_end.get();
  tar.standard_error = said.get();
  Child packer = LOAM_TRY(spawn(tar));
  plain.write_end.reset();
  SpawnOptions zstd;
  zstd.argv = {"zstd", "--quiet", "-3", "-T0", "--check", "--stdout"};
  zstd.standard_input = plain.read_end.get();
  zstd.standard_output = packed.write_end.get();
  zstd.standard_error = said.get();
  Child presser = LOAM_TRY(spawn(zstd));
  plain.read_end.reset();
  packed.write_end.reset();
  std::string buffer(kReadBytes, '\0');
  for (;;) {
    const ssize_t count = ::read(packed.read_end.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno("reading from zstd");
    if (count == 0) break;
    LOAM_CHECK(sink(std::string_view(buffer).substr(0, static_cast<std::size_t>(count))));
  }
  packed.read_end.reset();
  const int tar_status = LOAM_TRY(packer.wait());
  const int zstd_status = LOAM_TRY(presser.wait());
  // 1: an endpoint's request log grew while it was read, or its gateway took a file away (tar's
  // manual, "Return codes"); all else that is named stays as it is.
  const bool packed_whole = WIFEXITED(tar_status) && WEXITSTATUS(tar_status) <= 1;
  if (packed_whole && zstd_status == 0) return {};
  ::lseek(said.get(), 0, SEEK_SET);
  const auto text = read_fd(said.get());
  return fail(ErrorCode::io, (packed_whole ? "zstd: " + describe_status(zstd_status)
                                           : "tar: " + describe_status(tar_status)) +
                                 ": " + printable(trim(text ? *text : "")));
}

}  // namespace

Result<Json> write_backup(const NodeContext& context, const BackupOptions& options,
                          const std::function<Result<void>(std::string_view)>& sink) {
  const std::string& state = context.paths.state;
  const Workplace work(state + "/backup");
  LOAM_CHECK(work.make());
  const std::string database = work.path(kBackupDatabase);
  LOAM_CHECK(copy_database(context.paths.database, database));
  Names names;
  Json manifest = LOAM_TRY(add_store(state, names));
  LOAM_CHECK(add_work(state, database, names));
  if (options.secrets) names.add_if_there(state, "secrets");
  const Fd copied = LOAM_TRY(open_file(database, O_RDONLY));
  manifest.set("format", kBackupFormat);
  manifest.set("loam", LOAM_VERSION);
  manifest.set("database_format", migrations().size());
  manifest.set("database", LOAM_TRY(sha256_of_file(copied.get())).hex());
  manifest.set("rootless", context.identity.rootless);
  manifest.set("owner_uid", context.identity.owner_uid);
  manifest.set("secrets", options.secrets);
  manifest.set("created_ms", wall_ms());
  LOAM_CHECK(write_file_atomic(work.path(kBackupManifest), manifest.pretty() + "\n",
                               {.mode = 0600, .durable = false}));
  LOAM_CHECK(stream(work, state, names, sink));
  return manifest;
}

}  // namespace loam::node
