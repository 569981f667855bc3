#include "sandbox/control_file.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/files.h"

namespace loam::sandbox {

Result<void> write_control(const std::string& path, std::string_view value) {
  const Fd fd = LOAM_TRY(open_file(path, O_WRONLY));
  if (::write(fd.get(), value.data(), value.size()) < 0) return fail_errno("write " + path);
  return {};
}

}  // namespace loam::sandbox
