#include "env/debian.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/files.h"
#include "env/tool.h"

namespace loam::env {
namespace {

constexpr std::size_t kBaseTarsKept = 2;
constexpr std::string_view kBaseTarPrefix = "base-";

std::string index_text(const std::vector<Deb>& debs) {
  std::string text;
  for (const Deb& deb : debs)
    text += deb.sha256.hex() + " " + std::to_string(deb.size_bytes) + " " + deb.file() + " " +
            deb.name + "\n";
  return text;
}

// Whatever else decides the tree's bytes: the scripts and the tools that run outside it.
Result<std::string> cache_name(const std::string& folder, const std::string& suite,
                               const std::vector<Deb>& debs) {
  Sha256 hash;
  hash.add(suite + "\n" + index_text(debs) + program_version("mmdebstrap") +
           program_version("tar"));
  for (const char* script : {"common.sh", "debian_tree.sh", "clean_tree.sh"})
    hash.add(LOAM_TRY(read_file(folder + "/scripts/" + script)));
  return std::string(kBaseTarPrefix) + hash.finish().hex() + ".tar";
}

Result<void> lay_out_repository(const Context& context, const std::string& folder,
                                const std::vector<Deb>& debs) {
  LOAM_CHECK(make_folders(folder + "/repo", 0755));
  for (const Deb& deb : debs)
    LOAM_CHECK(
        copy_file(context.store->blob_path(deb.sha256), folder + "/repo/" + deb.file(), 0644));
  return write_file_atomic(folder + "/repo/index", index_text(debs),
                           {.mode = 0644, .durable = false});
}

// "Setting up zlib1g:amd64 (1:1.2.13) ..." → one more package done.
OnLine build_progress(const Context& context, std::uint64_t total) {
  return [&context, total, done = std::uint64_t{0}](std::string_view line) mutable {
    if (line.starts_with("Setting up ")) ++done;
    if (line.starts_with("Setting up ") || line.starts_with("Unpacking ") ||
        line.starts_with("I: "))
      report(context, {"building", std::min(done, total), total, std::string(line)});
  };
}

void drop_old_tars(const std::string& builds) {
  const auto names = list_folder(builds);
  if (!names) return;
  std::vector<std::pair<std::int64_t, std::string>> tars;
  for (const std::string& name : *names) {
    struct stat status {};
    const std::string path = builds + "/" + name;
    if (name.starts_with(kBaseTarPrefix) && ::lstat(path.c_str(), &status) == 0)
      tars.emplace_back(status.st_mtim.tv_sec, path);
  }
  std::sort(tars.rbegin(), tars.rend());
  for (std::size_t i = kBaseTarsKept; i < tars.size(); ++i) (void)::unlink(tars[i].second.c_str());
}

// The tar was written by the build's ids; from here on it is the node's alone. The build has ended,
// so nobody holds it open for writing.
Result<void> adopt(const std::string& made, const std::string& kept) {
  const Fd file =
      LOAM_TRY(open_left(made.substr(0, made.rfind('/')), made.substr(made.rfind('/') + 1)));
  if (::fchown(file.get(), ::geteuid(), ::getegid()) != 0) return fail_errno(made);
  if (::fchmod(file.get(), 0644) != 0) return fail_errno(made);
  if (::rename(made.c_str(), kept.c_str()) != 0) return fail_errno(kept);
  return {};
}

Result<void> run_mmdebstrap(const Context& context, const std::string& folder,
                            const std::string& suite, const std::vector<Deb>& debs) {
  LOAM_CHECK(require_program("mmdebstrap", "mmdebstrap"));
  LOAM_CHECK(lay_out_repository(context, folder, debs));
  report(context, {"building", 0, debs.size(), "debian:" + suite});
  const auto ended = LOAM_TRY(
      run_build(context, {.folder = folder, .argv = {"debian_tree.sh", suite}, .environment = {}},
                build_progress(context, debs.size())));
  if (ended.ok()) return {};
  return fail(ErrorCode::unavailable,
              "building debian:" + suite + " failed: " + condensed(ended.tail));
}

}  // namespace

Result<void> provide_base_tar(const Context& context, const std::string& folder,
                              const std::string& suite, const std::vector<Deb>& debs) {
  const std::string kept = context.work_folder + "/" + LOAM_TRY(cache_name(folder, suite, debs));
  const std::string here = folder + "/base.tar";
  if (::link(kept.c_str(), here.c_str()) == 0) return {};
  if (errno != ENOENT) return fail_errno(here);
  LOAM_CHECK(run_mmdebstrap(context, folder, suite, debs));
  LOAM_CHECK(adopt(folder + "/work/base.tar", kept));
  if (::link(kept.c_str(), here.c_str()) != 0) return fail_errno(here);
  drop_old_tars(context.work_folder);
  // Space and names for the step that comes next.
  LOAM_CHECK(remove_tree(folder + "/work"));
  return sandbox::give_folder(folder + "/work", context.build_uids, context.build_gids);
}

Result<void> fetch_missing_debs(const Context& context, const std::string& suite,
                                const std::vector<Deb>& debs) {
  std::vector<Deb> missing;
  std::copy_if(debs.begin(), debs.end(), std::back_inserter(missing),
               [&](const Deb& deb) { return !context.store->has_blob(deb.sha256); });
  if (missing.empty()) return {};
  const TempFolder temp = LOAM_TRY(TempFolder::make(context.work_folder));
  Apt apt = LOAM_TRY(Apt::open(context, temp.path(), suite));
  for (const Deb& deb : missing) {
    const auto fetched = apt.fetch(deb);
    if (fetched || fetched.error().code == ErrorCode::cancelled) {
      LOAM_CHECK(fetched);
      continue;
    }
    return fail(ErrorCode::not_found,
                deb.name + " " + deb.version +
                    " is no longer to be had from the configured mirror; renew with: loam lock "
                    "--update (" +
                    fetched.error().text + ")");
  }
  return {};
}

}  // namespace loam::env
