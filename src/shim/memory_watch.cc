#include "shim/memory_watch.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/files.h"

namespace loam::shim {

MemoryWatch::MemoryWatch(const sandbox::CgroupPaths& cgroup) {
  for (const auto& [controller, folder] : cgroup.v1)
    if (controller == "memory") watch_v1(folder);
  if (!fd_ && !cgroup.v2.empty()) watch_v2(cgroup.v2);
}

// cgroup-v1/memory.rst, "OOM control": "<eventfd> <fd of memory.oom_control>" to
// cgroup.event_control.
void MemoryWatch::watch_v1(const std::string& folder) {
  auto control = open_file(folder + "/memory.oom_control", O_RDONLY);
  auto registry = open_file(folder + "/cgroup.event_control", O_WRONLY);
  Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!control || !registry || !event) return;
  const std::string line = std::to_string(event.get()) + " " + std::to_string(control->get());
  if (!write_full(registry->get(), line)) return;
  fd_ = std::move(event);
  control_ = std::move(*control);
}

// cgroup-v2.rst: a change of memory.events is a POLLPRI, re-armed by reading from the start.
void MemoryWatch::watch_v2(const std::string& folder) {
  auto events = open_file(folder + "/memory.events", O_RDONLY);
  if (!events) return;
  v2_ = true;
  fd_ = std::move(*events);
  acknowledge();
}

void MemoryWatch::acknowledge() {
  char bytes[256];
  if (v2_) (void)!::pread(fd_.get(), bytes, sizeof bytes, 0);
  if (!v2_ && fd_) (void)!::read(fd_.get(), bytes, 8);
}

}  // namespace loam::shim
