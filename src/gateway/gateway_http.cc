// Gateway, the protocol's half: what each path answers.
#include <algorithm>

#include "base/text.h"
#include "gateway/gateway.h"
#include "gateway/route.h"

namespace loam::gateway {
namespace {

HttpResponse json_response(const Json& document, int status = 200) {
  HttpResponse response;
  response.status = status;
  response.body = document.dump();
  return response;
}

HttpResponse not_found(const std::string& text) { return error_response(404, text); }

}  // namespace

bool Gateway::ready() const {
  return std::all_of(models_.begin(), models_.end(), [this](const auto& model) {
    return find(model->name(), "")->ready_replicas() > 0;  // one of its versions
  });
}

// Without a version: the last in the plan that is ready, else the last that may become so.
Model* Gateway::find(std::string_view name, std::string_view version) const {
  const auto rank = [](const Model& model) {
    return model.ready_replicas() > 0 ? 2 : model.is_hopeless() ? 0 : 1;
  };
  Model* chosen = nullptr;
  for (const auto& model : models_) {
    if (model->name() != name || (!version.empty() && model->version() != version)) continue;
    if (!chosen || rank(*model) >= rank(*chosen)) chosen = model.get();
  }
  return chosen;
}

Model* Gateway::infer_target(const Exchange& exchange) const {
  const auto route = parse_route(exchange.request.target);
  if (!route || route->resource != Resource::infer || exchange.request.method != "POST")
    return nullptr;
  return find(route->name, route->version);
}

void Gateway::arriving(const ExchangePtr& exchange) {
  if (Model* model = infer_target(*exchange)) model->arriving(exchange);
}

void Gateway::vanished(const ExchangePtr& exchange) {
  // The plan may have changed since it came: whoever has it lets go.
  for (const auto& model : models_) model->vanished(exchange);
}

void Gateway::handle(const ExchangePtr& exchange) {
  if (Model* model = infer_target(*exchange)) return model->handle(exchange);
  exchange->answer(respond_alone(exchange->request));
}

HttpResponse Gateway::model_metadata(const Model& model) const {
  Json versions = Json::array();
  for (const auto& other : models_)
    if (other->name() == model.name()) versions.push(other->version());
  Json document = Json::object(
      {{"name", model.name()}, {"versions", std::move(versions)}, {"platform", "loam_python"}});
  const channel::Signature* signature = model.signature();
  if (!signature)
    return error_response(503,
                          "model '" + model.name() + "': no replica has said yet what it takes");
  document.set("inputs", to_json(signature->inputs));
  document.set("outputs", to_json(signature->outputs));
  return json_response(document);
}

HttpResponse Gateway::respond_alone(const HttpRequest& request) const {
  const auto route = parse_route(request.target);
  if (!route) return not_found("no such path; see GET /v2");
  const bool infer = route->resource == Resource::infer;
  const bool reads = request.method == "GET" || request.method == "HEAD";
  if (infer ? request.method != "POST" : !reads) {
    const std::string_view allowed = infer ? "POST" : "GET, HEAD";
    auto refused = error_response(405, printable(request.method) + ": expected " + std::string(allowed));
    refused.allow = allowed;
    return refused;
  }
  if (route->resource == Resource::server)
    return json_response(Json::object({{"name", "loam"},
                                       {"version", LOAM_VERSION},
                                       {"extensions", Json::array({"binary_tensor_data"})}}));
  if (route->resource == Resource::live) return json_response(Json::object({{"live", true}}));
  if (route->resource == Resource::ready)
    return json_response(Json::object({{"ready", ready()}}), ready() ? 200 : 503);
  const Model* model = find(route->name, route->version);
  if (!model) {
    std::vector<std::string> names;
    for (const auto& other : models_) names.push_back(other->name() + "@" + other->version());
    return not_found(
        "no model '" + printable(route->name) + "'" +
        (route->version.empty() ? "" : " version '" + printable(route->version) + "'") +
        "; served here: " + (names.empty() ? "none" : join(names, ", ")));
  }
  if (route->resource == Resource::model_ready) {
    const bool up = model->ready_replicas() > 0;
    return json_response(Json::object({{"name", model->name()}, {"ready", up}}), up ? 200 : 503);
  }
  return model_metadata(*model);
}

}  // namespace loam::gateway
