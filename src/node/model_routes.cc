// Models and their versions: listed, shown, imported, removed.
#include <fcntl.h>

#include <limits>

#include "base/clock.h"
#include "base/text.h"
#include "node/runs_impl.h"
#include "node/services.h"
#include "trace/records.h"

namespace loam::node {
namespace {

struct Import {
  UserIds reader;
  ModelVersion version;
  std::shared_ptr<store::Store::Pin> pin;
  Result<store::TreeInfo> tree = store::TreeInfo{};
  CallStop stop;  // once its client has gone
};

Json models_json(const std::vector<ModelVersion>& versions) {
  Json list{Json::Array{}};
  for (std::size_t begin = 0; begin < versions.size();) {
    Json of_model{Json::Array{}};
    std::size_t end = begin;
    for (; end < versions.size() && versions[end].name == versions[begin].name; ++end)
      of_model.push(to_json(versions[end]));
    list.push(Json::object({{"name", versions[begin].name}, {"versions", std::move(of_model)}}));
    begin = end;
  }
  return list;
}

Json files_json(const std::vector<store::ListingEntry>& listing) {
  Json files{Json::Array{}};
  for (const store::ListingEntry& entry : listing)
    if (entry.type != store::ListingEntry::Type::folder)
      files.push(Json::object({{"path", printable(entry.path)},
                               {"size_bytes", entry.size_bytes},
                               {"mode", entry.mode}}));
  return files;
}

Error no_model(std::string_view text, const std::vector<std::string>& names) {
  const std::string near = nearest(text, names);
  return {ErrorCode::not_found, "no model '" + printable(text) + "'" +
                                    (near.empty() ? "" : "; did you mean '" + near + "'?")};
}

// On a worker. A model may be of any size.
void read_model(Runs::Impl& runs, Import& import, const std::string& path) {
  constexpr auto kNoLimit = std::numeric_limits<std::uint64_t>::max();
  const store::TreeOptions options{.owner_root = true, .size_bytes_max = kNoLimit, .file_size_bytes_max = kNoLimit};
  const auto take = [&](int fd) -> Result<void> {
    import.tree = runs.node.store.put_tree_from_snapshot(fd, options);
    if (!import.tree) return tl::unexpected(import.tree.error());
    return {};
  };
  if (import.stop.stopped()) return;
  auto streamed = runs.node.helpers.stream(import.reader, {"__import", path}, "", take, &import.stop);
  if (!streamed) import.tree = tl::unexpected(streamed.error());
}

// On the loop.
void add_model(Runs::Impl& runs, Import& import, const ResponderPtr& responder) {
  if (import.stop.stopped()) return;  // nobody has heard of it, and nobody will
  if (!import.tree) return responder->reply_error(import.tree.error());
  ModelVersion& version = import.version;
  if (auto room = runs.check_room(version.uid, import.tree->added_bytes); !room)
    return responder->reply_error(room.error());
  version.version = runs.models.next_version(version.uid, version.name);
  version.tree = import.tree->digest.hex();
  version.size_bytes = static_cast<std::int64_t>(import.tree->size_bytes);
  version.created_ms = wall_ms();
  const auto record = runs.node.store.put_record(
      trace::model_record({.model = version.name,
                           .version = static_cast<int>(version.version),
                           .tree = version.tree,
                           .size_bytes = import.tree->size_bytes,
                           .run = "",
                           .imported_from = version.imported,
                           .created_ms = version.created_ms}));
  if (!record) return responder->reply_error(record.error());
  version.record = record->hex();
  runs.models.add(version);
  runs.store_use.add(version.uid, import.tree->added_bytes);
  responder->reply(201, Json::object({{"name", version.name},
                                      {"version", version.version},
                                      {"left_out", printable_array(import.tree->skipped_names)},
                                      {"left_out_count", static_cast<std::int64_t>(import.tree->skipped)}}));
}

void import_model(Runs::Impl& runs, const Request& request, const ResponderPtr& responder) {
  auto import = std::make_shared<Import>();
  const std::string path = request.body["path"].as_string();
  import->version.name = request.body["name"].as_string();
  if (!path.starts_with('/'))
    return responder->reply_error({ErrorCode::invalid, "path: expected an absolute path"});
  const auto name = parse_model_name(import->version.name);
  if (!name || name->version)
    return responder->reply_error(
        {ErrorCode::invalid, "name: expected a model's name (letters, digits, - _ .) without a version, found '" +
                                 printable(import->version.name) + "'; give one with --name NAME"});
  import->reader = ids_of(request.caller);
  import->version.uid = request.caller.uid;
  import->version.imported = printable(path);
  if (auto room = runs.check_room(request.caller.uid); !room)
    return responder->reply_error(room.error());
  import->pin = runs.node.store.pin();
  responder->on_closed([import] { import->stop.stop(); });
  runs.node.loop.offload_for(
      import->reader.uid, [&runs, import, path] { read_model(runs, *import, path); },
      [&runs, import, responder] { add_model(runs, *import, responder); });
}

void remove_versions(Runs::Impl& runs, const Request& request, const Routes::Params& params,
                     const ResponderPtr& responder) {
  const auto wanted = parse_model_name(params.at("name"));
  if (!wanted) return responder->reply_error(wanted.error());
  std::vector<ModelVersion> removed;
  for (const ModelVersion& version : runs.models.versions(request.caller.uid, wanted->name))
    if (!wanted->version || *wanted->version == version.version) removed.push_back(version);
  if (removed.empty())
    return responder->reply_error(
        no_model(params.at("name"), runs.models.names(request.caller.uid)));
  for (const ModelVersion& version : removed)
    if (runs.services->serves(version.uid, version.name, version.version))
      return responder->reply_error(
          {ErrorCode::busy, version.name + "@" + std::to_string(version.version) +
                                " is being served; stop it first: loam down"});
  Json list{Json::Array{}};
  for (const ModelVersion& version : removed) {
    runs.models.remove(version);
    list.push(version.name + "@" + std::to_string(version.version));
  }
  responder->reply(200, Json::object({{"removed", std::move(list)}}));
}

void show_model(Runs::Impl& runs, const Request& request, const Routes::Params& params,
                const ResponderPtr& responder) {
  const auto wanted = parse_model_name(params.at("name"));
  if (!wanted) return responder->reply_error(wanted.error());
  const auto version = runs.models.find(request.caller.uid, *wanted);
  if (!version)
    return responder->reply_error(
        no_model(params.at("name"), runs.models.names(request.caller.uid)));
  Json json = to_json(*version);
  json.set("name", version->name);
  const auto tree = Digest::parse(version->tree);
  const auto listing = tree ? runs.node.store.listing(*tree) : std::vector<store::ListingEntry>{};
  json.set("files", files_json(listing ? *listing : std::vector<store::ListingEntry>{}));
  const auto digest = Digest::parse(version->record);
  const auto record = digest ? runs.node.store.get_record(*digest) : Result<Json>(Json());
  json.set("record", record ? *record : Json());
  Json versions{Json::Array{}};
  for (const ModelVersion& one : runs.models.versions(request.caller.uid, version->name))
    versions.push(to_json(one));
  json.set("versions", std::move(versions));
  responder->reply(200, json);
}

}  // namespace

void Runs::Impl::model_routes(Routes& routes) {
  routes.add("GET", "/v1/models",
             [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
               responder->reply(
                   200, Json::object({{"models", models_json(models.all(request.caller.uid))}}));
             });
  routes.add("GET", "/v1/models/:name",
             [this](const Request& request, const Routes::Params& params, ResponderPtr responder) {
               show_model(*this, request, params, responder);
             });
  routes.add("POST", "/v1/models/import",
             [this](const Request& request, const Routes::Params&, ResponderPtr responder) {
               import_model(*this, request, responder);
             });
  routes.add("DELETE", "/v1/models/:name",
             [this](const Request& request, const Routes::Params& params, ResponderPtr responder) {
               remove_versions(*this, request, params, responder);
             });
}

}  // namespace loam::node
