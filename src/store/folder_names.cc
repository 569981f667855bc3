#include "store/folder_names.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string_view>

namespace loam::store {
namespace {

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

}  // namespace

Result<std::vector<std::string>> names_in(int folder_fd, std::size_t names_max) {
  // A descriptor of its own: one that is shared would share the place in the folder.
  const int own = ::openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (own < 0) return fail_errno("open folder");
  const std::unique_ptr<DIR, CloseFolder> folder(::fdopendir(own));
  if (!folder) {
    const int error = errno;
    ::close(own);
    return fail_errno("open folder", error);
  }
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(folder.get())) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (names.size() == names_max)
      return fail(ErrorCode::too_large,
                  "more than " + std::to_string(names_max) + " names in a folder");
    names.emplace_back(name);
  }
  if (errno != 0) return fail_errno("read folder");
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace loam::store
