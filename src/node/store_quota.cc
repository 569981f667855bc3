// What a user may keep in the store (`store` of his quota), and whether there is room for more at all.
//
// Asked before a snapshot is taken or a model imported, and again with what that brought. What a job
// makes is always kept: nobody's training is thrown away, but he submits nothing more until he is
// below his quota again.
#include <algorithm>

#include "base/text.h"
#include "node/disk_room.h"
#include "node/runs_impl.h"

namespace loam::node {
namespace {

std::optional<std::int64_t> store_limit_of(const spec::NodeConfig& config, const std::string& user) {
  const auto found = std::find_if(config.users.begin(), config.users.end(),
                                  [&](const spec::User& one) { return one.name == user; });
  const bool has_own = found != config.users.end() && found->quota;
  const auto& quota = has_own ? found->quota : config.queue.user_quota;
  return quota ? quota->store_bytes : std::nullopt;
}

std::string size_text(std::int64_t bytes) {
  return format_size(static_cast<std::uint64_t>(std::max<std::int64_t>(bytes, 0)));
}

}  // namespace

Result<void> Runs::Impl::check_room(std::uint32_t uid, std::uint64_t more_bytes) {
  if (std::string why = refusal_by_disk(node.context.paths.state); !why.empty())
    return fail(ErrorCode::full, std::move(why));
  const std::string user = user_name(uid);
  const auto limit = store_limit_of(node.config.config, user);
  const std::int64_t kept = store_use.bytes(uid), more = static_cast<std::int64_t>(more_bytes);
  if (!limit || kept + more <= *limit) return {};
  return fail(ErrorCode::full, user + " keeps " + size_text(kept) + " of at most " +
                                   size_text(*limit) + " in Loam's store" +
                                   (more > 0 ? ", and this is " + size_text(more) + " more" : "") +
                                   ": remove versions (loam models rm) or keep fewer runs (keep: in "
                                   "loam.yaml), then loam store gc");
}

// As GET /v1/usage shows it.
Json Runs::Impl::store_use_json() {
  Json list = Json::array();
  for (const auto& [uid, bytes] : store_use.all()) {
    const std::string user = user_name(uid);
    const auto limit = store_limit_of(node.config.config, user);
    list.push(Json::object(
        {{"user", user}, {"bytes", bytes}, {"bytes_max", limit ? Json(*limit) : Json()}}));
  }
  return list;
}

}  // namespace loam::node
