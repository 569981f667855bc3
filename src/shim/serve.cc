#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <map>
#include <utility>

#include "base/fork_server.h"
#include "base/log.h"
#include "base/text.h"
#include "sandbox/devices.h"
#include "sandbox/user_namespace.h"
#include "shim/shim.h"

namespace loam::shim {
namespace {

using UserAndGroup = std::pair<std::uint32_t, std::uint32_t>;
constexpr std::size_t kNamespacesMax = 64;

std::optional<UserAndGroup> ids_from(const std::string& text) {
  UserAndGroup ids;
  const char* const end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, ids.first);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != ':') return std::nullopt;
  const auto second = std::from_chars(first.ptr + 1, end, ids.second);
  return second.ec == std::errc() && second.ptr == end ? std::optional(ids) : std::nullopt;
}

// What all sandboxes of a machine, or of a user, have alike: made once, in the server, and inherited by each shim.
// What cannot be made here is left to the shim, which says what is missing.
class Prepared {
 public:
  Prepared() {
    if (auto program = sandbox::load_device_program()) device_program_ = std::move(*program);
  }
  void prepare(const ForkRequest& request) {
    if (request.arguments.size() != 2) return;
    const auto ids = ids_from(request.arguments[1]);
    if (!ids || namespaces_.contains(*ids)) return;
    if (namespaces_.size() >= kNamespacesMax) namespaces_.clear();
    auto made = sandbox::make_user_namespace(sandbox::swapped_with_root(ids->first),
                                             sandbox::swapped_with_root(ids->second));
    if (made) namespaces_[*ids] = std::move(*made);
  }
  sandbox::Shared shared_for(const ForkRequest& request) const {
    const auto ids = ids_from(request.arguments[1]);
    const auto found = ids ? namespaces_.find(*ids) : namespaces_.end();
    return {.device_program = device_program_.get(),
            .swapped_ids = found == namespaces_.end() ? -1 : found->second.get()};
  }

 private:
  Fd device_program_;
  std::map<UserAndGroup, Fd> namespaces_;
};

#ifdef LOAM_CRASH_POINTS
// A crash point's first passage is the first shim's: the attempt after the lost one must get through.
void forget_crash_point() {
  const char* const wanted = ::getenv("LOAM_CRASH_AT");
  if (wanted != nullptr && std::string_view(wanted).find(':') == std::string_view::npos) ::unsetenv("LOAM_CRASH_AT");
}
#else
void forget_crash_point() {}
#endif

}  // namespace

int serve_shims(int argument_count, char** arguments) {
  Prepared prepared;
  bool first = true;
  auto request = serve_forks(argument_count, arguments, [&](const ForkRequest& next) {
    if (!std::exchange(first, false)) forget_crash_point();
    prepared.prepare(next);
  });
  if (!request) {
    log_error(request.error().text);
    return 2;
  }
  if (!*request) return 0;  // the node is gone
  ForkRequest& mine = **request;
  if (mine.arguments.size() != 2 || mine.descriptors.size() != 3) {
    log_error("a request has a folder, ids, and three descriptors");
    return 2;
  }
  (void)::dup2(mine.descriptors[2].get(), STDERR_FILENO);
  mine.descriptors[2].reset();
  return keep_attempt({.folder = mine.arguments[0],
                       .lock = std::move(mine.descriptors[0]),
                       .node = std::move(mine.descriptors[1]),
                       .shared = prepared.shared_for(mine)});
}

}  // namespace loam::shim
