#include "node/work_folders.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/files.h"

namespace loam::node {

std::string work_name(JobId job, int number) {
  return std::to_string(job) + "-" + std::to_string(number);
}

Result<void> make_owned_folder(const std::string& path, std::uint32_t uid, std::uint32_t gid,
                               mode_t mode) {
  if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) return fail_errno("mkdir " + path);
  const Fd folder = LOAM_TRY(open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  struct stat status {};
  if (::fstat(folder.get(), &status) != 0) return fail_errno(path);
  if ((status.st_uid != uid || status.st_gid != gid) && ::fchown(folder.get(), uid, gid) != 0)
    return fail_errno("chown " + path);
  if (::fchmod(folder.get(), mode) != 0) return fail_errno("chmod " + path);
  return {};
}

Result<void> make_work_folders(const std::string& work, std::uint32_t uid, std::uint32_t gid) {
  LOAM_CHECK(remove_tree(work));
  // Passable for the user's own opener, listable by nobody.
  LOAM_CHECK(make_folders(work, 0711));
  if (::chmod(work.c_str(), 0711) != 0) return fail_errno(work);
  for (const char* name : {"/run", "/output"}) LOAM_CHECK(make_owned_folder(work + name, uid, gid));
  // The upper layers within are the user's, their names are not: a link in the place of one would
  // be followed by the kernel as it mounts, with the node's rights.
  for (const char* name : {"/project", "/scratch"})
    LOAM_CHECK(make_owned_folder(work + name, ::geteuid(), ::getegid()));
  return {};
}

Result<void> make_home(const std::string& homes, std::uint32_t uid, std::uint32_t gid,
                       const std::string& project) {
  const std::string user_folder = homes + "/" + std::to_string(uid);
  LOAM_CHECK(make_folders(user_folder, 0711));
  if (::chmod(user_folder.c_str(), 0711) != 0) return fail_errno(user_folder);
  return make_owned_folder(user_folder + "/" + project, uid, gid);
}

}  // namespace loam::node
