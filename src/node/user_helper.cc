#include "node/user_helper.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/openat2.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "base/fd.h"
#include "base/files.h"
#include "base/fork_server.h"
#include "base/json.h"
#include "base/text.h"
#include "node/user_child.h"
#include "spec/project.h"
#include "store/snapshot.h"

namespace loam::node {
namespace {

constexpr std::string_view kLockName = "loam.lock";

Result<Json> read_options() {
  const std::string text = LOAM_TRY(read_fd(STDIN_FILENO));
  return Json::parse(text);
}

Result<Fd> open_folder(const std::string& folder) {
  Fd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return fail_errno(printable(folder));
  return fd;
}

Result<void> walk(const std::string& folder) {
  const Json options = LOAM_TRY(read_options());
  store::WalkOptions walk_options;
  walk_options.data_patterns = options["data"].as_strings();
  walk_options.always_skip = options["skip"].as_strings();
  return store::walk_project(folder, walk_options, STDOUT_FILENO);
}

Result<void> match(const std::string& folder) {
  const Json options = LOAM_TRY(read_options());
  const spec::DiskFolder disk(folder);
  Json matched{Json::Array{}};
  for (const std::string& pattern : options["patterns"].as_strings())
    if (disk.has_match(pattern)) matched.push(pattern);
  return write_full(STDOUT_FILENO, Json::object({{"matched", std::move(matched)}}).dump());
}

Result<void> fingerprint(const std::string& folder) {
  const Json options = LOAM_TRY(read_options());
  Json results{Json::Object{}};
  for (const Json& source : options["sources"].as_array()) {
    const std::string name = LOAM_TRY(source.string_at("name"));
    const std::string pattern = LOAM_TRY(source.string_at("pattern"));
    auto taken = store::fingerprint_data(folder, pattern, source["mode"].as_string());
    if (!taken) return in_context("data." + name, taken.error());
    results.set(name, std::move(*taken));
  }
  return write_full(STDOUT_FILENO, results.dump());
}

Result<void> read_one(const std::string& folder, const std::string& name) {
  const Fd top = LOAM_TRY(open_folder(folder));
  open_how how{};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  const Fd file(
      static_cast<int>(::syscall(SYS_openat2, top.get(), name.c_str(), &how, sizeof how)));
  if (!file) return fail_errno(printable(folder + "/" + name));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return fail_errno(printable(name));
  if (!S_ISREG(status.st_mode))
    return fail(ErrorCode::invalid, printable(name) + ": not a regular file");
  const std::string content = LOAM_TRY(read_fd(file.get()));
  return write_full(STDOUT_FILENO, content);
}

// The old lock or the new one, never half; a link named loam.lock is replaced, not followed.
Result<void> write_lock(const std::string& folder) {
  const std::string content = LOAM_TRY(read_fd(STDIN_FILENO));
  const Fd top = LOAM_TRY(open_folder(folder));
  const std::string temporary = ".loam.lock." + std::to_string(::getpid());
  const Fd file(::openat(top.get(), temporary.c_str(),
                         O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!file) return fail_errno(printable(folder) + "/loam.lock");
  auto written = write_full(file.get(), content);
  if (written && ::fchmod(file.get(), 0644) != 0) written = fail_errno("loam.lock");
  if (written && ::fsync(file.get()) != 0) written = fail_errno("loam.lock");
  if (written && ::renameat(top.get(), temporary.c_str(), top.get(), kLockName.data()) != 0)
    written = fail_errno("loam.lock");
  if (!written) (void)::unlinkat(top.get(), temporary.c_str(), 0);
  return written;
}

Result<void> import(const std::string& folder) {
  struct stat status {};
  if (::stat(folder.c_str(), &status) == 0 && !S_ISDIR(status.st_mode))
    return fail(ErrorCode::invalid, printable(folder) + ": is no folder; a model is one: put its files into a folder of "
                                                        "their own and import that");
  auto walked = store::walk_project(folder, {.data_patterns = {}, .always_skip = {}, .model = true}, STDOUT_FILENO);
  if (!walked) return in_context(printable(folder), walked.error());
  return walked;
}

Result<void> owner(const std::string& folder) {
  struct stat status {};
  if (::stat(folder.c_str(), &status) != 0) return fail_errno(printable(folder));
  return write_full(STDOUT_FILENO, std::to_string(status.st_uid));
}

// PDEATHSIG last: a change of ids clears it.
Result<void> become(const UserIds& user) {
  if (::geteuid() != user.uid || ::getegid() != user.gid) {
    static_assert(sizeof(gid_t) == sizeof(std::uint32_t));
    if (::setgroups(user.groups.size(), user.groups.data()) != 0) return fail_errno("setgroups");
    if (::setresgid(user.gid, user.gid, user.gid) != 0) return fail_errno("setresgid");
    if (::setresuid(user.uid, user.uid, user.uid) != 0) return fail_errno("setresuid");
  }
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return fail_errno("PDEATHSIG");
  return {};
}

Result<void> run(const std::vector<std::string>& arguments) {
  const std::string& subcommand = arguments[0];
  const std::string& folder = arguments[1];
  if (subcommand == "__walk") return walk(folder);
  if (subcommand == "__match") return match(folder);
  if (subcommand == "__fingerprint") return fingerprint(folder);
  if (subcommand == "__write-lock") return write_lock(folder);
  if (subcommand == "__owner") return owner(folder);
  if (subcommand == "__import") return import(folder);
  if (subcommand == "__read" && arguments.size() >= 4) return read_one(folder, arguments[2]);
  return fail(ErrorCode::invalid, "unknown helper");
}

// Standard streams as the node gave them, then the user's ids, then the work.
Result<void> serve(const ForkRequest& request) {
  if (request.arguments.size() < 3 || request.descriptors.size() != 3)
    return fail(ErrorCode::invalid, "a helper needs a folder, ids and three streams");
  for (int stream = 0; stream < 3; ++stream)
    if (::dup2(request.descriptors[static_cast<std::size_t>(stream)].get(), stream) < 0)
      return fail_errno("dup2");
  LOAM_CHECK(become(LOAM_TRY(ids_from(request.arguments.back()))));
  return run(request.arguments);
}

}  // namespace

bool is_user_helper(std::string_view word) { return word == "__serve"; }

int user_helper_main(int argc, char** argv) {
  auto request = serve_forks(argc, argv);
  auto done = request && *request ? serve(**request) : Result<void>();
  if (!request) done = tl::unexpected(request.error());
  if (done) return 0;
  const Json error = Json::object(
      {{"code", error_code_name(done.error().code)}, {"text", printable(done.error().text)}});
  (void)write_full(STDERR_FILENO, error.dump());
  return 1;
}

}  // namespace loam::node
