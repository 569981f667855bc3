// What is asked about the store: its content and size, whether it is whole, its collection.
#include <atomic>
#include <set>

#include "base/text.h"
#include "node/disk.h"
#include "node/findings.h"
#include "node/runs_impl.h"

namespace loam::node {
namespace {

constexpr std::uint64_t kProgressSteps =
    200;  // as many lines at most, however many objects there are

struct Verification {
  ResponderPtr responder;
  std::atomic<bool> gone = false;  // nobody listens: set by the loop, read by the worker
  Result<std::vector<store::Damage>> damage = std::vector<store::Damage>{};
};

struct StoreView {
  std::vector<Json> items;
  store::Usage usage;
  std::string error;
};

void show_store(Runs::Impl& runs, const Request& request, const ResponderPtr& responder) {
  auto view = std::make_shared<StoreView>();
  std::set<std::string> seen;
  const auto add = [&](const std::string& kind, const std::string& name, const std::string& digest,
                       const std::string& why) {
    if (digest.empty() || !seen.insert(kind + name + digest).second) return;
    view->items.push_back(
        Json::object({{"kind", kind}, {"name", name}, {"digest", digest}, {"why", why}}));
  };
  for (const ModelVersion& version : runs.models.all(request.caller.uid))
    add("model", version.name + "@" + std::to_string(version.version), version.tree,
        version.run != 0 ? "made by " + std::to_string(version.run) + "/" + version.step
                         : "imported");
  for (const std::string& digest : runs.envs.newest(kEnvsKept))
    if (const auto env = runs.envs.find(digest))
      add("env", env->section["base"].as_string(), env->tree,
          "environment " + digest.substr(0, 12));
  for (const RunRow& run :
       runs.tables.runs("uid=? ORDER BY id DESC LIMIT 200", {std::int64_t{request.caller.uid}}))
    add("snapshot", run.project, run.snapshot, "run " + std::to_string(run.id));
  runs.node.loop.offload(
      [&runs, view] {
        for (Json& item : view->items) {
          const auto digest = Digest::parse(item["digest"].as_string());
          const auto info = digest && runs.node.store.has_tree(*digest)
                                ? runs.node.store.tree_info(*digest)
                                : Result<store::TreeInfo>(store::TreeInfo{});
          item.set("size_bytes", info ? info->size_bytes : 0);
        }
        const auto usage = runs.node.store.usage();
        if (usage) view->usage = *usage;
        if (!usage) view->error = usage.error().text;
      },
      [&runs, view, responder] {
        if (!view->error.empty()) return responder->reply_error({ErrorCode::io, view->error});
        responder->reply(
            200,
            Json::object({{"trees", view->usage.trees},
                          {"objects", view->usage.objects},
                          {"blobs", view->usage.blobs},
                          {"size_bytes", view->usage.size_bytes},
                          {"foreign", printable_array(view->usage.foreign)},
                          {"disk_free_bytes", disk_free_bytes(runs.node.context.paths.store)},
                          {"items", Json(Json::Array(view->items.begin(), view->items.end()))}}));
      });
}

void verify_store(Runs::Impl& runs, const ResponderPtr& responder) {
  auto verification = std::make_shared<Verification>();
  verification->responder = responder;
  responder->start_stream("text/event-stream");
  responder->on_closed([verification] { verification->gone = true; });
  runs.node.loop.offload(
      [&runs, verification] {
        verification->damage =
            runs.node.store.verify([&runs, verification](std::uint64_t done, std::uint64_t total) {
              if (done * kProgressSteps / total != (done - 1) * kProgressSteps / total)
                runs.node.loop.post([verification, done, total] {
                  if (!verification->gone)
                    verification->responder->write(
                        sse_text("progress", Json::object({{"done", done}, {"total", total}})));
                });
              return !verification->gone;
            });
      },
      [verification] {
        if (verification->gone) return;
        Json damage{Json::Array{}};
        for (const store::Damage& one :
             verification->damage ? *verification->damage : std::vector<store::Damage>{})
          damage.push(Json::object({{"what", one.what}, {"finding", printable(one.finding)}}));
        Json data = Json::object({{"damage", std::move(damage)}});
        if (!verification->damage) data.set("error", printable(verification->damage.error().text));
        verification->responder->write(sse_text("done", data));
        verification->responder->end_stream();
      });
}

}  // namespace

Json printable_array(const std::vector<std::string>& foreign) {
  Json list{Json::Array{}};
  for (const std::string& text : foreign) list.push(printable(text));
  return list;
}

void Runs::Impl::store_routes(Routes& routes) {
  routes.add("GET", "/v1/store",
             [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
               show_store(*this, request, responder);
             });
  routes.add("POST", "/v1/store/verify",
             [this](const Request&, const Routes::Params&, ResponderPtr responder) {
               verify_store(*this, responder);
             });
  routes.add("POST", "/v1/store/gc",
             [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
               const bool dry_run = request.body["dry_run"].as_bool();
               if (!node.context.identity.rootless &&
                   !is_root(node.context.identity, request.caller) && !dry_run)
                 return responder->reply_error(
                     {ErrorCode::denied,
                      "the system node's store is collected by root: sudo loam store gc"});
               collect(dry_run, std::move(responder));
             });
}

}  // namespace loam::node
