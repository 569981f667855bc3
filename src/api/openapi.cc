#include "api/openapi.h"

#include <cctype>

#include "api/shape.h"
#include "base/text.h"

namespace loam::api {
namespace {

constexpr const char* kAbout =
    "HTTP/1.1 with JSON over the node's Unix socket, where the caller is who the kernel says (peer "
    "credentials), and over TLS where the node is configured for it, where a token says it. Times are milliseconds since 1970, sizes bytes. TARGET is RUN[/STEP[/ATTEMPT]], such "
    "as 17, 17/train or 17/train/2; parts left out mean the last failed, else the newest. "
    "Only one's own runs are visible to act on; everyone sees the queue.";

struct Name {
  std::string method;   // "get"
  std::string path;     // "/v1/runs/{id}"
  std::string id;       // "getRunsIdEvents"
  Json parameters = Json::array();
};

// "GET /v1/logs/*target". A part that takes the rest of a path is written as one parameter, whose
// slashes may come as they are or as %2F.
Name parse(const std::string& name) {
  Name parsed;
  const auto space = name.find(' ');
  for (const char c : name.substr(0, space))
    parsed.method += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  parsed.id = parsed.method;
  for (std::string part : split(name.substr(space + 2), '/')) {
    const bool parameter = part.starts_with(':') || part.starts_with('*');
    const bool rest = part.starts_with('*');
    if (parameter) part.erase(0, 1);
    parsed.path += parameter ? "/{" + part + "}" : "/" + part;
    if (part == "v1") continue;
    for (const std::string& word : split(part, '.'))
      parsed.id += static_cast<char>(std::toupper(static_cast<unsigned char>(word[0]))) + word.substr(1);
    if (!parameter) continue;
    Json one = Json::object({{"name", part},
                             {"in", "path"},
                             {"required", true},
                             {"schema", Json::object({{"type", "string"}, {"minLength", 1}})}});
    if (rest) one.set("description", "may hold slashes");
    parsed.parameters.push(std::move(one));
  }
  return parsed;
}

Json content(const std::string& type, Json schema) {
  return Json::object({{type, Json::object({{"schema", std::move(schema)}})}});
}

Json answer(const std::string& description, Json body) {
  return Json::object({{"description", description}, {"content", std::move(body)}});
}

Json responses_of(const Json& described) {
  Json responses = Json::object();
  if (described.has("upgrades"))
    responses.set("101", Json::object({{"description", "then " + described["upgrades"].as_string()}}));
  Json body = Json::object();
  if (described.has("returns"))
    body.set("application/json",
             Json::object({{"schema", schema_of(described["returns"], ShapeUse::answer)}}));
  if (described.has("streams"))
    body.set(described["streams"].as_string(), Json::object());  // no document: nothing of a schema's
  if (body.size() > 0) responses.set("200", answer("done", std::move(body)));
  if (described.has("creates"))
    responses.set("201", answer("made", content("application/json", schema_of(described["creates"],
                                                                              ShapeUse::answer))));
  const Json error = content("application/json",
                             Json::object({{"$ref", "#/components/schemas/Refusal"}}));
  for (const auto& [status, why] : described["refuses"].as_object())
    responses.set(status, answer(why.as_string(), error));
  responses.set("default", answer("refused, or failed", error));
  return responses;
}

Json operation_json(const std::string& name, const Json& described, Name& parsed) {
  Json one = Json::object({{"operationId", parsed.id}, {"responses", responses_of(described)}});
  one.set("summary", described.is_null() ? Json(name) : described["summary"]);
  for (const auto& [written, shape] : described["query"].as_object()) {
    const bool optional = written.ends_with('?');
    parsed.parameters.push(
        Json::object({{"name", optional ? written.substr(0, written.size() - 1) : written},
                      {"in", "query"},
                      {"required", !optional},
                      {"schema", schema_of(shape, ShapeUse::answer)}}));
  }
  if (parsed.parameters.size() > 0) one.set("parameters", parsed.parameters);
  if (described.has("takes")) {
    Json schema = schema_of(described["takes"], ShapeUse::request);
    const bool required = schema.has("required");
    one.set("requestBody", Json::object({{"required", required},
                                         {"content", content("application/json", std::move(schema))}}));
  }
  if (described.has("upgrades"))
    one.set("x-upgrade", described["upgrades"]);
  if (described.has("events")) {
    Json events = Json::object();
    for (const auto& [kind, shape] : described["events"].as_object())
      events.set(kind, schema_of(shape, ShapeUse::answer));
    one.set("x-events", std::move(events));
  }
  // Nobody's word but the kernel's, or a token's.
  const std::string scope = described.has("scope")      ? described["scope"].as_string()
                            : parsed.method == "get" ? "read"
                                                     : "submit";
  Json ways = Json::array({Json::object()});
  if (scope != "local") ways.push(Json::object({{"token", Json::array({scope})}}));
  one.set("security", std::move(ways));
  return one;
}

}  // namespace

const Json& operation(const std::string& name) { return operation_shapes()[name]; }

std::vector<std::string> operation_names() {
  std::vector<std::string> names;
  for (const auto& [name, described] : operation_shapes().as_object()) names.push_back(name);
  return names;
}

Json openapi_document(const std::vector<std::string>& operations) {
  Json paths = Json::object();
  for (const std::string& name : operations) {
    Name parsed = parse(name);
    Json path = paths[parsed.path];
    path.set(parsed.method, operation_json(name, operation(name), parsed));
    paths.set(parsed.path, std::move(path));
  }
  Json schemas = Json::object();
  for (const auto& [name, shape] : named_shapes().as_object())
    schemas.set(name, schema_of(shape, ShapeUse::answer));
  return Json::object(
      {{"openapi", "3.1.0"},
       {"info", Json::object({{"title", "Loam node"}, {"version", LOAM_VERSION}, {"description", kAbout}})},
       {"servers", Json::array({Json::object({{"url", "http://localhost"},
                                              {"description", "over the Unix socket"}})})},
       {"paths", std::move(paths)},
       {"components",
        Json::object({{"schemas", std::move(schemas)},
                      {"securitySchemes",
                       Json::object({{"token", Json::object({{"type", "http"}, {"scheme", "bearer"}})}})}})}});
}

}  // namespace loam::api
