#include "sandbox/stage.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/files.h"
#include "base/text.h"
#include "sandbox/hidden.h"
#include "sandbox/root.h"
#include "sandbox/user_namespace.h"

namespace loam::sandbox {
namespace {

// Any folder that every host has: covered only in the sandbox's own mount namespace, and gone with
// its old root.
constexpr const char* kStage = "/tmp";
constexpr std::uint64_t kSmallTmpfsBytes = 16u << 20;

Result<void> make_folder(const std::string& path, mode_t mode, const Ids* owner = nullptr) {
  if (::mkdir(path.c_str(), mode) != 0) return fail_errno("mkdir " + path);
  if (owner != nullptr && ::chown(path.c_str(), owner->uid, owner->gid) != 0)
    return fail_errno("chown " + path);
  return {};
}

// upper and work of an overlay, the user's: an upper that is not would make the overlay's top
// root's.
Result<void> make_upper(const std::string& folder, const Ids& ids) {
  for (const char* name : {"/upper", "/work"}) {
    const std::string path = folder + name;
    if (::mkdir(path.c_str(), 0755) != 0) {
      if (errno == EEXIST) continue;
      return fail_errno("mkdir " + path);
    }
    if (::chmod(path.c_str(), 0755) != 0) return fail_errno("chmod " + path);  // whatever the umask
    if (::lchown(path.c_str(), ids.uid, ids.gid) != 0) return fail_errno("chown " + path);
  }
  return {};
}

// Loam's own. Below its state the last name may lie in a folder of the user's (a replica's
// channel): a link put there in time would lead anywhere, past folders that the user cannot pass.
Result<Fd> open_own(const Bind& bind, const std::vector<std::string>& state) {
  const bool of_state = std::any_of(state.begin(), state.end(), [&](const std::string& folder) {
    return starts_with_path(bind.from, folder);
  });
  return open_file(bind.from, of_state ? O_PATH | O_DIRECTORY | O_NOFOLLOW : O_PATH);
}

Result<Sources::Bound> open_bind(const Bind& bind, int fd, int user_namespace,
                                 std::vector<std::string> hidden) {
  const TargetKind kind = LOAM_TRY(kind_of(fd));
  const MountOptions options{.read_only = !bind.writable,
                             .recursive = !bind.root_is_user,
                             .user_namespace = bind.root_is_user ? user_namespace : -1};
  return Sources::Bound{LOAM_TRY(clone_tree(fd, "", options)), kind, std::move(hidden)};
}

Result<void> open_binds(const Spec& spec, int user_namespace, Sources& sources) {
  std::vector<UserPath> paths;
  for (const Bind& bind : spec.binds)
    if (bind.opened_as_user) paths.push_back({bind.from});
  const auto opened = LOAM_TRY(open_as_user(spec.ids, paths));
  const auto mounts = LOAM_TRY(list_mounts());
  const auto masks = real_paths(spec.masks);
  auto next = opened.begin();
  for (const Bind& bind : spec.binds) {
    Fd own;
    if (!bind.opened_as_user) own = LOAM_TRY(open_own(bind, spec.masks));
    const int fd = bind.opened_as_user ? (next++)->get() : own.get();
    auto hidden = hidden_below(fd, bind.opened_as_user, masks, mounts);
    auto bound = hidden ? open_bind(bind, fd, user_namespace, std::move(*hidden))
                        : tl::unexpected(hidden.error());
    if (!bound) return in_context(bind.from, bound.error());
    sources.binds.push_back(std::move(*bound));
  }
  return {};
}

std::uint64_t scratch_bytes(const Spec& spec) {
  if (spec.memory_bytes > 0) return spec.memory_bytes / 2;
  struct sysinfo info {};
  ::sysinfo(&info);
  return std::uint64_t{info.totalram} * info.mem_unit / 2;
}

Result<Fd> overlay(const Sources& sources, const std::string& lower,
                   const std::string& upper_folder) {
  Parameters parameters{{"lowerdir", lower},
                        {"upperdir", upper_folder + "/upper"},
                        {"workdir", upper_folder + "/work"}};
  if (sources.userxattr) parameters.emplace_back("userxattr", "");
  return new_filesystem("overlay", parameters);
}

// The stage: one tmpfs for everything that the sandbox may fill (upper, /tmp, /var/tmp, /run), so
// that one size bounds them together.
Result<void> mount_scratch(const Spec& spec) {
  const Fd stage = LOAM_TRY(new_tmpfs(scratch_bytes(spec), 0755));
  LOAM_CHECK(attach(stage.get(), kStage));
  if (::chdir(kStage) != 0) return fail_errno("chdir to the stage");
  for (const char* name :
       {"root", "lower", "disk", "dev", "loam", "empty", "files", "project_lower", "project_upper"})
    LOAM_CHECK(make_folder(name, 0755));
  for (const char* name : {"tmp", "var_tmp"}) LOAM_CHECK(make_folder(name, 01777));
  LOAM_CHECK(make_folder("run", 0755, &spec.ids));
  LOAM_CHECK(make_folder("project", 0755, &spec.ids));
  const Fd empty_file = LOAM_TRY(open_file("empty_file", O_CREAT | O_WRONLY, 0644));
  return {};
}

Result<void> mount_root(const Spec& spec, const Sources& sources) {
  if (spec.root_tree.empty()) {
    const Fd root = LOAM_TRY(new_tmpfs(kSmallTmpfsBytes, 0755));
    LOAM_CHECK(attach(root.get(), "root"));
    LOAM_CHECK(fill_host_root("root"));
    // Where most mounts go; a host's own folder of that name lies below.
    for (const char* path : {"root/loam", "root/project"})
      if (::mkdir(path, 0755) != 0 && errno != EEXIST)
        return fail_errno(std::string("mkdir ") + path);
    return {};
  }
  LOAM_CHECK(attach(sources.root_tree.get(), "lower"));
  std::string upper = ".";
  if (sources.scratch) {
    LOAM_CHECK(attach(sources.scratch.get(), "disk"));
    upper = "disk";
  }
  LOAM_CHECK(make_upper(upper, spec.ids));
  const Fd root = LOAM_TRY(overlay(sources, "lower", upper));
  return attach(root.get(), "root");
}

// Only the initial user namespace may mount it: a user's own node gives the pages without the folder,
// for mmap(MAP_HUGETLB).
Result<void> mount_huge_pages(const Spec& spec) {
  LOAM_CHECK(make_folder("dev/hugepages", 0755));
  auto pages = new_filesystem("hugetlbfs", {{"pagesize", std::to_string(spec.huge_page_bytes)},
                                            {"size", std::to_string(spec.huge_bytes)},
                                            {"uid", std::to_string(spec.ids.uid)},
                                            {"gid", std::to_string(spec.ids.gid)},
                                            {"mode", "0700"}});
  if (!pages && pages.error().code == ErrorCode::denied && !in_initial_user_namespace()) return {};
  if (!pages) return in_context("huge pages", pages.error());
  return attach(pages->get(), "dev/hugepages");
}

// Put together aside and then moved: the tree's own /dev may be anything.
Result<void> mount_dev(const Spec& spec, int root) {
  const Fd dev = LOAM_TRY(new_tmpfs(kSmallTmpfsBytes, 0755, {.devices = true}));
  LOAM_CHECK(attach(dev.get(), "dev"));
  LOAM_CHECK(fill_dev("dev"));
  if (auto added = add_devices("dev", spec.devices); !added)
    return in_context("assigned devices", added.error());
  const Fd pts = LOAM_TRY(new_filesystem(
      "devpts", {{"newinstance", ""}, {"ptmxmode", "0666"}, {"mode", "0620"}}, {.devices = true}));
  LOAM_CHECK(attach(pts.get(), "dev/pts"));
  const Fd shm = LOAM_TRY(new_tmpfs(std::max<std::uint64_t>(spec.shm_bytes, 4096), 01777));
  LOAM_CHECK(attach(shm.get(), "dev/shm"));
  if (spec.huge_page_bytes != 0) LOAM_CHECK(mount_huge_pages(spec));
  const Fd target = LOAM_TRY(make_in_root(root, "/dev", TargetKind::folder));
  return attach(dev.get(), target.get());
}

// A folder of the stage, with the stage's nosuid and nodev.
Result<void> bind_to(int root, const std::string& from, const std::string& to) {
  const Fd tree = LOAM_TRY(copy_tree(AT_FDCWD, from));
  const auto target = make_in_root(root, to, TargetKind::folder);
  if (!target) return in_context("mount at " + to, target.error());
  return attach(tree.get(), target->get());
}

// hosts, passwd, resolv.conf and their like. Read-only binds of files on the stage.
Result<void> mount_files(const Spec& spec, int root) {
  for (std::size_t i = 0; i < spec.files.size(); ++i) {
    const std::string name = "files/" + std::to_string(i);
    {
      const Fd file = LOAM_TRY(open_file(name, O_WRONLY | O_CREAT | O_EXCL, 0644));
      LOAM_CHECK(write_full(file.get(), spec.files[i].content));
    }
    const Fd tree = LOAM_TRY(clone_tree(AT_FDCWD, name, {.read_only = true}));
    const auto target = make_in_root(root, spec.files[i].path, TargetKind::file);
    if (!target) {
      // The host's files cannot be added to; what the host does without (say /etc/hostname), its
      // jobs do without.
      if (spec.root_tree.empty()) continue;
      return in_context("file " + spec.files[i].path, target.error());
    }
    LOAM_CHECK(attach(tree.get(), target->get()));
  }
  return {};
}

Result<void> mount_project(const Spec& spec, const Sources& sources, int root) {
  if (spec.project_tree.empty()) {
    const bool bound = std::any_of(spec.binds.begin(), spec.binds.end(),
                                   [](const Bind& bind) { return bind.to == "/project"; });
    return bound ? Result<void>{} : bind_to(root, "project", "/project");
  }
  LOAM_CHECK(attach(sources.project_tree.get(), "project_lower"));
  std::string upper = "project";
  if (sources.project_upper) {
    LOAM_CHECK(attach(sources.project_upper.get(), "project_upper"));
    upper = "project_upper";
  }
  LOAM_CHECK(make_upper(upper, spec.ids));
  const Fd project = LOAM_TRY(overlay(sources, "project_lower", upper));
  const Fd target = LOAM_TRY(make_in_root(root, "/project", TargetKind::folder));
  return attach(project.get(), target.get());
}

// All of them before the first bind is there: below a bind, a missing place would be made on the
// host, and with the keeper's rights instead of the user's.
Result<void> make_bind_targets(const Spec& spec, const Sources& sources, int root) {
  for (std::size_t i = 0; i < spec.binds.size(); ++i) {
    const std::string& to = spec.binds[i].to;
    if (std::any_of(spec.binds.begin(), spec.binds.begin() + static_cast<std::ptrdiff_t>(i),
                    [&](const Bind& earlier) { return starts_with_path(to, earlier.to); }))
      continue;  // its place is in what is mounted there
    const auto made = make_in_root(root, to, sources.binds[i].kind);
    if (!made && spec.root_tree.empty())
      return in_context("mount at " + to,
                        Error{made.error().code,
                              made.error().text +
                                  " (with base: host the place must exist, or lie in a top folder "
                                  "that the host does not have, such as /data)"});
    if (!made) return in_context("mount at " + to, made.error());
  }
  return {};
}

Result<void> mount_binds(const Spec& spec, const Sources& sources, int root) {
  LOAM_CHECK(make_bind_targets(spec, sources, root));
  for (std::size_t i = 0; i < spec.binds.size(); ++i) {
    const Sources::Bound& source = sources.binds[i];
    const auto target = find_in_root(root, spec.binds[i].to, source.kind);
    if (!target && target.error().code == ErrorCode::not_found)
      return in_context("mount at " + spec.binds[i].to,
                        Error{target.error().code,
                              target.error().text +
                                  " (it lies in another mount, where nothing is made: make the place in the "
                                  "folder that is mounted there)"});
    if (!target) return in_context("mount at " + spec.binds[i].to, target.error());
    if (auto attached = attach(source.tree.get(), target->get()); !attached)
      return in_context("mount at " + spec.binds[i].to, attached.error());
    for (const std::string& place : source.hidden)
      LOAM_CHECK(mask(root, spec.binds[i].to + place, "empty", "empty_file"));
  }
  return {};
}

Result<void> make_read_only(int root, const std::string& path) {
  const auto place = open_in_root(root, path);
  if (!place) return {};  // this kernel has no such file
  const Fd tree = LOAM_TRY(clone_tree(place->get(), "", {.read_only = true}));
  return attach(tree.get(), place->get());
}

Result<void> mount_kernel_views(int proc, int sys, int root) {
  const Fd sys_target = LOAM_TRY(make_in_root(root, "/sys", TargetKind::folder));
  LOAM_CHECK(attach(sys, sys_target.get()));
  // The last of all: from here on, paths below /proc could lead to this process's own descriptors.
  const Fd proc_target = LOAM_TRY(make_in_root(root, "/proc", TargetKind::folder));
  LOAM_CHECK(attach(proc, proc_target.get()));
  for (const std::string& path : kReadOnlyPaths) LOAM_CHECK(make_read_only(root, path));
  for (const std::string& path : kMaskedPaths) LOAM_CHECK(mask(root, path, "empty", "empty_file"));
  return {};
}

}  // namespace

Result<Sources> open_sources(const Spec& spec, int swapped_ids) {
  Sources sources;
  sources.userxattr = !in_initial_user_namespace();
  Fd swapped;
  const bool idmaps =
      spec.project_root_is_user || std::any_of(spec.binds.begin(), spec.binds.end(),
                                               [](const Bind& bind) { return bind.root_is_user; });
  if (idmaps && swapped_ids < 0) {
    swapped = LOAM_TRY(
        make_user_namespace(swapped_with_root(spec.ids.uid), swapped_with_root(spec.ids.gid)));
    swapped_ids = swapped.get();
  }
  if (!spec.root_tree.empty())
    sources.root_tree =
        LOAM_TRY(clone_tree(AT_FDCWD, spec.root_tree, {.read_only = true, .recursive = false}));
  if (!spec.scratch_folder.empty()) {
    LOAM_CHECK(make_upper(spec.scratch_folder, spec.ids));
    sources.scratch = LOAM_TRY(clone_tree(AT_FDCWD, spec.scratch_folder, {.recursive = false}));
  }
  if (!spec.project_tree.empty())
    sources.project_tree =
        LOAM_TRY(clone_tree(AT_FDCWD, spec.project_tree,
                            {.read_only = true,
                             .recursive = false,
                             .user_namespace = spec.project_root_is_user ? swapped_ids : -1}));
  if (!spec.project_upper.empty()) {
    LOAM_CHECK(make_folders(spec.project_upper, 0700));
    LOAM_CHECK(make_upper(spec.project_upper, spec.ids));
    sources.project_upper =
        LOAM_TRY(clone_tree(AT_FDCWD, spec.project_upper, {.recursive = false}));
  }
  LOAM_CHECK(open_binds(spec, swapped_ids, sources));
  return sources;
}

Result<void> mount_stage(const Spec& spec, const Sources& sources) {
  ::umask(0);  // modes are as they are written
  LOAM_CHECK(make_private());
  // A new proc is granted only while the old one is in sight (mount_namespaces(7)).
  const Fd proc = LOAM_TRY(new_filesystem("proc", {}));
  const Fd sys = LOAM_TRY(clone_tree(AT_FDCWD, "/sys", {.read_only = true}));
  LOAM_CHECK(mount_scratch(spec));
  LOAM_CHECK(mount_root(spec, sources));
  const Fd root = LOAM_TRY(open_file("root", O_PATH | O_DIRECTORY));
  LOAM_CHECK(mount_dev(spec, root.get()));
  LOAM_CHECK(bind_to(root.get(), "tmp", "/tmp"));
  LOAM_CHECK(bind_to(root.get(), "var_tmp", "/var/tmp"));
  LOAM_CHECK(bind_to(root.get(), "run", "/run"));
  LOAM_CHECK(bind_to(root.get(), "loam", "/loam"));
  for (const std::string& path : spec.masks)
    LOAM_CHECK(mask(root.get(), path, "empty", "empty_file"));
  LOAM_CHECK(mount_files(spec, root.get()));
  LOAM_CHECK(mount_project(spec, sources, root.get()));
  LOAM_CHECK(mount_binds(spec, sources, root.get()));
  LOAM_CHECK(mount_kernel_views(proc.get(), sys.get(), root.get()));
  ::umask(022);
  return change_root("root");
}

}  // namespace loam::sandbox
