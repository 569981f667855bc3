#include "store/foreign.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "base/text.h"
#include "store/folder_names.h"

namespace loam::store {
namespace {

constexpr std::size_t kNamesMax = 100'000'000;
constexpr std::size_t kFolderLetters = 2;
constexpr std::size_t kDigestLetters = 64;

bool is_hex(std::string_view name, std::size_t size) {
  return name.size() == size && name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

class Search {
 public:
  Result<void> flat(const std::string& folder, const Fd& fd, bool (*is_own)(std::string_view)) {
    for (const std::string& name : LOAM_TRY(names_in(fd.get(), kNamesMax)))
      if (!is_own(name)) add(folder + "/" + name);
    return {};
  }

  Result<void> spread(const std::string& folder, const Fd& fd) {
    for (const std::string& name : LOAM_TRY(names_in(fd.get(), kNamesMax))) {
      const std::string path = folder + "/" + name;
      const Fd below = LOAM_TRY(open_spread(fd, name));
      if (below)
        LOAM_CHECK(flat(path, below, is_spread_file));
      else
        add(path);
    }
    return {};
  }

  std::vector<std::string> take() { return std::move(names_); }

 private:
  void add(const std::string& path) {
    if (names_.size() < kForeignNamedMax) names_.push_back(path);
  }

  std::vector<std::string> names_;
};

}  // namespace

bool is_digest_name(std::string_view name) { return is_hex(name, kDigestLetters); }
bool is_spread_file(std::string_view name) { return is_hex(name, kDigestLetters - kFolderLetters); }

bool is_copy_name(std::string_view name) {
  const auto parts = split(name, '-');
  return parts.size() == 3 && is_digest_name(parts[0]) && is_number(parts[1]) && is_number(parts[2]);
}

Result<Fd> open_spread(const Fd& top, const std::string& name) {
  if (!is_hex(name, kFolderLetters)) return Fd();
  Fd folder(::openat(top.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder && errno != ENOTDIR && errno != ELOOP && errno != ENOENT) return fail_errno("store: " + name);
  return folder;
}

Result<std::vector<std::string>> foreign_names(const Layout& layout) {
  Search search;
  LOAM_CHECK(search.spread("objects", layout.objects));
  LOAM_CHECK(search.spread("blobs", layout.blobs));
  LOAM_CHECK(search.flat("trees", layout.trees, is_digest_name));
  LOAM_CHECK(search.flat("listings", layout.listings, is_digest_name));
  LOAM_CHECK(search.flat("copies", layout.copies, is_copy_name));
  return search.take();
}

}  // namespace loam::store
