#include "gateway/plan_watch.h"

#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/files.h"

namespace loam::gateway {
namespace {

constexpr std::size_t kPlanBytesMax = 4u << 20;

}  // namespace

Result<std::unique_ptr<PlanWatch>> PlanWatch::open(EventLoop& loop, std::string folder,
                                                   std::function<void()> on_change) {
  Fd inotify(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!inotify) return fail_errno("inotify_init1");
  // The folder, not the file: every new plan is another file, renamed into place.
  if (::inotify_add_watch(inotify.get(), folder.c_str(),
                          IN_MOVED_TO | IN_CLOSE_WRITE | IN_ONLYDIR) < 0)
    return fail_errno("watch " + folder);
  std::unique_ptr<PlanWatch> watch(
      new PlanWatch(loop, std::move(folder), std::move(inotify), std::move(on_change)));
  LOAM_CHECK(loop.add(watch->inotify_.get(), EPOLLIN,
                      [self = watch.get()](std::uint32_t) { self->on_events(); }));
  return watch;
}

PlanWatch::PlanWatch(EventLoop& loop, std::string folder, Fd inotify,
                     std::function<void()> on_change)
    : loop_(loop),
      folder_(std::move(folder)),
      inotify_(std::move(inotify)),
      on_change_(std::move(on_change)) {}

PlanWatch::~PlanWatch() { loop_.remove(inotify_.get()); }

void PlanWatch::on_events() {
  char buffer[4096];
  while (::read(inotify_.get(), buffer, sizeof buffer) > 0) {
  }
  on_change_();
}

Result<api::EndpointPlan> PlanWatch::read() const {
  const std::string path = folder_ + "/plan.json";
  const std::string text = LOAM_TRY(read_file(path, kPlanBytesMax));
  const auto document = Json::parse(text);
  if (!document) return in_context(path, document.error());
  auto plan = api::endpoint_plan_from(*document);
  if (!plan) return in_context(path, plan.error());
  return plan;
}

}  // namespace loam::gateway
