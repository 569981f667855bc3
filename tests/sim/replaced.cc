// The functions of base, sandbox and libc that the supervisor calls and that reach out of the
// process, defined anew: the linker takes these instead of the archives' (a name that is missing
// here is an error of the linker: two definitions).
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crash_point.h"
#include "base/fork_server.h"
#include "base/log.h"
#include "sandbox/cgroup.h"
#include "world.h"

using loam::simulation::World;

// A worker that waits: meanwhile the world goes on.
extern "C" int nanosleep(const timespec*, timespec*) {
  World& world = *World::current();
  world.time_passes(1'000);
  world.shim_step();
  return 0;
}
extern "C" int poll(pollfd*, nfds_t, int) {
  World& world = *World::current();
  world.time_passes(250);
  world.shim_step();
  return 0;
}

namespace loam {

std::int64_t wall_ms() { return World::current()->wall; }
std::int64_t steady_ns() { return World::current()->steady_ms * 1'000'000; }
std::int64_t boottime_ns() { return steady_ns(); }
std::string boot_id() { return "boot-" + std::to_string(World::current()->boots); }
std::string format_time(std::int64_t ms) { return std::to_string(ms); }

void log_info(std::string_view text) { World::current()->say("node: " + std::string(text)); }
void log_warning(std::string_view text) {
  World::current()->say("node warns: " + std::string(text));
}
void log_error(std::string_view text) {
  World::current()->say("node: error: " + std::string(text));
}

void crash_point(const char* name) {
  World& world = *World::current();
  if (world.crash_at != name || --world.crash_passages > 0) return;
  world.crash_at.clear();
  world.say(std::string("the node is killed at ") + name);
  throw simulation::NodeKilled{};
}

ForkServer::ForkServer(std::vector<std::string> argv, std::vector<std::string> environment)
    : argv_(std::move(argv)), environment_(std::move(environment)) {}
Result<void> ForkServer::start() { return {}; }
void ForkServer::stop() {}
Result<Child> ForkServer::fork(const std::vector<std::string>& arguments,
                               const std::vector<int>& descriptors) {
  World& world = *World::current();
  if (world.faults && world.random.one_in(40))
    return fail(ErrorCode::unavailable, "no process could be forked");
  const bool helper_dies = world.faults && world.random.one_in(40);
  if (helper_dies && world.random.one_in(2)) return fail(ErrorCode::io, "the helper died");
  const auto copy = [](int fd) { return Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 0)); };
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno("pipe");
  auto shim = std::make_unique<simulation::Shim>();
  shim->folder = arguments[0];
  shim->attempt = arguments[0].substr(arguments[0].rfind('/') + 1);
  shim->lock = copy(descriptors[0]);
  shim->first = copy(descriptors[1]);
  shim->alive = Fd(ends[1]);
  Fd pidfd(ends[0]);
  world.say("shim " + shim->attempt + " is forked" + (helper_dies ? ", and its helper dies" : ""));
  world.shims.push_back(std::move(shim));
  if (helper_dies) return fail(ErrorCode::io, "the helper died");
  return Child(1 << 30, std::move(pidfd));  // above every pid: nobody's child, reaped at once
}

namespace sandbox {

Json to_json(const CgroupParents&) { return Json::object({{"v2", "simulated"}}); }
Result<CgroupParents> cgroup_parents_from(const Json&) { return CgroupParents{.v2 = "simulated"}; }
CgroupPaths cgroup_paths(const CgroupParents&, const std::string& name) { return {.v2 = name}; }
Result<CgroupPaths> create_cgroup(const CgroupParents&, const std::string& name,
                                  const CgroupLimits&) {
  World& world = *World::current();
  if (world.faults && world.random.one_in(40)) return fail(ErrorCode::full, "cgroup: no space");
  world.groups[name];
  return CgroupPaths{.v2 = name};
}
Result<void> kill_cgroup(const CgroupPaths& paths, std::int64_t) {
  World& world = *World::current();
  const auto found = world.groups.find(paths.v2);
  if (found == world.groups.end()) return {};
  if (found->second.populated && found->second.unkillable)
    return fail(ErrorCode::busy, "still populated");
  if (found->second.populated) world.say("group " + paths.v2 + " is killed");
  found->second.populated = false;
  return {};
}
Result<void> remove_cgroup(const CgroupPaths& paths) {
  World& world = *World::current();
  const auto found = world.groups.find(paths.v2);
  if (found == world.groups.end()) return {};
  if (found->second.populated) return fail(ErrorCode::busy, "populated");
  world.groups.erase(found);
  return {};
}
std::vector<std::string> list_cgroups(const CgroupParents&) {
  std::vector<std::string> names;
  for (const auto& [name, group] : World::current()->groups) names.push_back(name);
  return names;
}

}  // namespace sandbox
}  // namespace loam
